"""A whole cloud made by `./pileus up` from a copy of the tree, with an empty state folder of its own."""

import contextlib
import json
import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import psutil

from cloud.embedded.paths import TREE, Home
from cloud.embedded.ports import next_free
from cloud.embedded.publish import publish
from cloud.embedded.supervisor import start_time

POOL = "10.213.7.0/28"  # addresses that lead to machines from this one alone


class OneMachine:
    """A copy of the tree, its state folder, and what the outside sees of it."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.root = folder / "tree", folder / "home"
        self.tree.mkdir()
        self.lay_out()
        self.port = next_free(range(18080, 18180), name="test")
        not_ours = ("PILEUS_", "DATABASE_URL", "REDIS_URL", "DJANGO_")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(not_ours)}
        self.env |= {"PILEUS_HOME": str(self.root), "PILEUS_PORT": str(self.port)}
        if os.geteuid() == 0:
            self.env["PILEUS_POOLS"] = f"{POOL}=routed"
        self.first_up: subprocess.CompletedProcess[str] | None = None
        self.first_up_seconds = 0.0
        self.first_boots: list[str] = []
        self.first_id: str | None = None

    def lay_out(self):
        """Bring the tree to the state of the one that is tested."""
        publish(TREE, self.tree)

    def command(self, *arguments):
        return [str(self.tree / "pileus"), *arguments]

    def pileus(self, *arguments, check=True):
        command = self.command(*arguments)
        done = subprocess.run(command, cwd="/", env=self.env, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done

    def logs(self):
        return "\n".join(
            f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in self.home.log.glob("*.log")
        )

    @property
    def home(self):
        return Home(self.root)

    @property
    def credentials(self):
        return json.loads(self.home.credentials.read_text())

    def api(self, who="demo"):
        credentials = self.credentials
        headers = {"Authorization": f"Bearer {credentials[who]['token']}"}
        return httpx.Client(base_url=f"{credentials['url']}/api/v1", headers=headers, timeout=30, trust_env=False)

    def first(self):
        with self.api() as api:
            answer = api.get("/projects/demo/instances/first")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def boots(self):
        """How often the first VM's guest has said that it is up."""
        with self.api() as api:
            lines = api.get("/projects/demo/instances/first/console-log", params={"lines": 2000}).json()["lines"]
        return [line for line in lines if re.match(r"READY first \d", line)]

    def first_emulator(self):
        """pid and start time of the first VM's emulator: those of other tests' VMs may still be ending."""
        if self.first_id is None:
            self.first_id = self.first()["id"]
        return self.emulators(self.first_id)

    def emulators(self, machine_id=""):
        """pid and start time of the emulators of this state folder, or of one VM of it."""
        found = {}
        for process in psutil.process_iter(["name", "cmdline"]):
            words = " ".join(process.info["cmdline"] or [])
            is_emulator = (process.info["name"] or "").startswith(
                "qemu-system"
            ) or f"{self.root}/agent/unicorn/" in words
            # A new program of the embedded emulator is tried once: no machine, though it looks like one.
            if is_emulator and str(self.root) in words and machine_id in words and not words.endswith("--self-test"):
                found[process.pid] = start_time(process.pid)
        return found

    def processes(self):
        """Everything that still runs out of this folder."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            with contextlib.suppress(psutil.Error):
                if any(str(self.root) in word for word in process.info["cmdline"] or []):
                    found.append(" ".join(process.info["cmdline"]))
        return found


class BareMachine(OneMachine):
    """The same as an ordinary user sees it on a machine without QEMU, and without anything else that is not there
    from the beginning. It is hidden by a mount namespace, which only root can make."""

    NOT_THERE = ("qemu-system-x86_64", "qemu-system-riscv64", "qemu-system-aarch64", "qemu-img", "lz4", "zstd")

    def __init__(self, folder: Path, packages: Path) -> None:
        super().__init__(folder)
        self.user = pwd.getpwnam("nobody")
        self.hidden = [found for name in self.NOT_THERE if (found := shutil.which(name))]
        self.env["HOME"] = str(folder)
        # Debian's packages are there already; everything that is made of them is not.
        cache = self.home.cache / ".cache" / "pileus"
        for name in ("apt", "packages"):
            shutil.copytree(packages / name, cache / name)
        for path in (folder, self.root, *self.root.rglob("*")):
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def command(self, *arguments):
        hide = "for program in $HIDDEN; do mount --bind /dev/null $program; done"
        become = f"setpriv --reuid={self.user.pw_uid} --regid={self.user.pw_gid} --clear-groups --bounding-set=-all"
        self.env["HIDDEN"] = " ".join(self.hidden)
        script = f'{hide}; exec {become} -- "$@"'
        return ["unshare", "--mount", "sh", "-ec", script, "sh", *super().command(*arguments)]


def offer_riscv(machine: OneMachine, image: Path) -> None:
    offer(machine, "riscv64", "tiny-linux-riscv64", image)


def offer(machine: OneMachine, wanted: str, name: str, image: Path) -> None:
    """`./pileus image …`, where the guest is built already: building it is the matter of other tests."""
    folder = machine.home.built_images / name
    if not folder.exists():
        shutil.copytree(image, folder)
        ask = "from cloud.embedded import environment; print(environment.source_fingerprint('images'), end='')"
        python = [str(machine.home.venv / "bin" / "python"), "-P", "-c", ask]
        (machine.home.stamps / folder.name).write_text(subprocess.check_output(python, text=True))
    assert name.removesuffix("-x86_64") in machine.pileus("image", wanted).stdout
