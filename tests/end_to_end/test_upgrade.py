"""A cloud of an earlier version is upgraded in place, as `git pull && ./pileus restart` does; its machines go on."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from cloud.embedded.paths import TREE
from cloud.embedded.publish import publish
from images import build
from tests.clouds import wait_until
from tests.end_to_end.machines import OneMachine
from tests.end_to_end.serial import Serial

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

EARLIER = "d019b98"  # the last version in which the house was built for instances alone
CHECKOUT = os.environ.get("PILEUS_CHECKOUT", str(TREE))
GIT = ["git", "-c", "safe.directory=*", "-C", CHECKOUT]
INSTANCES = "/projects/demo/instances"
PASSWORD = "mushroom"
LOGIN = {"user_data": f"#cloud-config\npassword: {PASSWORD}\n"}


class EarlierMachine(OneMachine):
    """A tree as it was at an earlier commit, out of the history of the one that is tested."""

    def lay_out(self):
        archive = subprocess.run([*GIT, "archive", EARLIER], check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", self.tree], input=archive, check=True)

    def share(self, cache: Path) -> None:
        """Debian's packages are there already, for whoever builds images; the images are built of them anew."""
        own = self.home.cache / ".cache" / "pileus"
        for name in ("apt", "packages"):
            if (cache / name).exists():
                shutil.copytree(cache / name, own / name)
        for path in (own.parent, own, *own.rglob("*")):
            if path.exists() and not path.is_symlink():
                path.chmod(0o777)

    def offer_riscv(self, image: Path) -> None:
        """`./pileus image riscv64` of that commit, where the guest is built already."""
        folder = self.root / "built-images" / "tiny-linux-riscv64"
        shutil.copytree(image, folder)
        ask = "from cloud.embedded import environment; print(environment.source_fingerprint('images'), end='')"
        python = [str(self.home.venv / "bin" / "python"), "-P", "-c", ask]
        folder.with_suffix(".stamp").write_text(subprocess.check_output(python, text=True))
        assert "tiny-linux-riscv64" in self.pileus("image", "riscv64").stdout

    def pull(self) -> None:
        """The tree becomes the one that is tested."""
        publish(TREE, self.tree)


def require_history() -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed: there is no earlier version to upgrade from")
    found = subprocess.run([*GIT, "cat-file", "-e", f"{EARLIER}^{{commit}}"], check=False, capture_output=True)
    if found.returncode != 0:
        pytest.skip(f"{CHECKOUT} has no history back to {EARLIER} (a shallow clone, or a copy)")


@pytest.fixture
def machine(riscv_linux):
    require_history()
    folder = Path(tempfile.mkdtemp(prefix="pu-"))
    folder.chmod(0o755)
    machine = EarlierMachine(folder)
    machine.share(build.default_cache())
    try:
        yield machine
    finally:
        machine.pileus("down", check=False)
        left = machine.processes()
        shutil.rmtree(folder, ignore_errors=True)
    assert left == []


@pytest.fixture
def do(machine):
    """Several verbs at once: `do(web="stop", other="pause")`; ends when all of them have ended well."""

    def verbs(**wanted):
        with machine.api() as api:
            begun = []
            for name, wish in wanted.items():
                verb, body = wish if isinstance(wish, tuple) else (wish, {})
                path = f"{INSTANCES}/{name}"
                answer = api.delete(f"{path}?purge=true") if verb == "delete" else api.post(f"{path}/{verb}", json=body)
                assert answer.status_code == 202, answer.text
                begun.append(answer.json()["operation"]["id"])
            for ident in begun:
                finish(api, ident)

    return verbs


def finish(api, operation):
    def ended():
        found = api.get(f"/projects/demo/operations/{operation}", params={"wait": 30}).json()
        return found if found["finished_at"] else None

    found = wait_until(ended, 120, what="the operation ends")
    assert found["outcome"] == "done", f"{found['kind']}: {found['reason']}"


def launch(api, *wishes):
    """All at once; ends when their guests say that they are up."""
    answers = [api.post(INSTANCES, json={"flavor": "tiny", **LOGIN, **wish}) for wish in wishes]
    for answer in answers:
        assert answer.status_code == 202, answer.text
        finish(api, answer.json()["operation"]["id"])
    for wish in wishes:
        await_boot(api, wish["name"])


def await_boot(api, name):
    """Wait until a guest has said once that it is up; fails with the end of what it said."""

    def told():
        return f"{name}: {statuses(api)}\n" + "\n".join(console_log(api, name)[-30:])

    wait_until(lambda: boots(api, name) == 1, 240, what="the guest is up", told=told)


def console_log(api, name):
    return api.get(f"{INSTANCES}/{name}/console-log", params={"lines": 2000}).json()["lines"]


def boots(api, name):
    """How often a guest's own userland has said that it is up, under whatever name."""
    return sum(bool(re.match(r"READY \S+ \d", line)) for line in console_log(api, name))


def statuses(api):
    return {one["name"]: one["status"] for one in api.get(INSTANCES).json()["items"]}


def leave_mark(api, name, *, log_in):
    """Something that only this very shell of the guest knows."""
    with Serial(api, f"{INSTANCES}/{name}") as serial:
        if log_in:
            serial.log_in(PASSWORD)
        serial.type(f"MARK=of-{name}; echo $((6*7))")
        serial.expect("42")


def uptime(api, name):
    """What the guest itself says, in the shell that was left open."""
    with Serial(api, f"{INSTANCES}/{name}") as serial:
        serial.type("echo $MARK is up for $(cut -d. -f1 /proc/uptime) s")
        return int(serial.expect(rf"of-{name} is up for (\d+) s")[1])


def test_a_cloud_of_before_is_upgraded_under_its_machines(machine, do, riscv_linux):
    machine.pileus("up")
    machine.offer_riscv(riscv_linux)
    with machine.api() as api:
        embedded = {"image": "tiny-linux-riscv64", "hypervisor": "unicorn"}
        qemu = {"image": "tiny-linux", "hypervisor": "qemu"}
        launch(api, {"name": "runs", **qemu}, {"name": "sleeps", **qemu}, {"name": "source", **embedded})
        for name in ("runs", "sleeps", "source"):
            leave_mark(api, name, log_in=True)
        do(first="stop", sleeps="suspend", source=("clone", {"name": "copy"}))
        wait_until(lambda: statuses(api).get("copy") == "running", 60, what="the clone runs")
        leave_mark(api, "copy", log_in=False)
        had = statuses(api)
        assert had == {
            "first": "stopped",
            "runs": "running",
            "sleeps": "suspended",
            "source": "running",
            "copy": "running",
        }
        was_up = {name: (uptime(api, name), time.monotonic()) for name in ("runs", "source", "copy")}
        emulators = machine.emulators()
        assert len(emulators) == 3

    machine.pull()
    machine.pileus("restart")

    assert machine.emulators() == emulators
    with machine.api() as api:
        wait_until(
            lambda: statuses(api) == had, 60, what="everything is seen as it was", told=lambda: str(statuses(api))
        )
        assert machine.emulators() == emulators
        for name, (seconds, at) in was_up.items():
            assert uptime(api, name) >= seconds + 0.5 * (time.monotonic() - at), f"{name} stood still"
        machine.pileus("verify")

        do(first="start", sleeps="resume", runs="pause", source=("clone", {"name": "another"}))
        do(runs="resume", first="reboot", copy=("clone", {"name": "third"}))
        assert uptime(api, "sleeps") > 0
        assert uptime(api, "runs") > was_up["runs"][0]
        do(runs="suspend", copy="stop", sleeps=("reboot", {"hard": True}))
        do(runs="resume", copy="start")
        wait_until(lambda: set(statuses(api).values()) == {"running"}, 60, told=lambda: str(statuses(api)))
        assert boots(api, "runs") == 1
        machine.pileus("verify")
        do(**dict.fromkeys(statuses(api), "delete"))
        assert statuses(api) == {}
    machine.pileus("verify")
    assert not machine.emulators()
