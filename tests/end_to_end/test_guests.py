"""Four systems side by side on one host: a whole Debian, tiny-linux on two architectures, and one that is not Linux.

Judges that nobody here wrote: Debian's cloud-init and systemd, and iPXE. Run by
`./pileus test -m guests tests/end_to_end/test_guests.py`: the first time the Debian is built, which takes minutes.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from passlib.hash import sha512_crypt

from cloud.embedded import system_packages
from images import tools
from tests.clouds import wait_until
from tests.end_to_end.machines import offer
from tests.end_to_end.rack import SSH
from tests.images.conftest import built

pytestmark = [pytest.mark.guests, pytest.mark.vm, pytest.mark.timeout(3600)]

PROJECT = "/projects/demo"
NAMES = ("whole", "arm", "pc", "other")
SECONDS_TO_BOOT = 900  # a whole system, emulated, on a machine that does other things besides
SERVES = "#!/bin/sh\nhttpd -f -vv -p 8000 -h /tmp >/dev/console 2>&1 &\n"
FETCHES = """#!ipxe
imgfetch http://{address}:8000/fetched-by-${{net0/ip}} ||
prompt
"""
PARTS = """Content-Type: multipart/mixed; boundary="b"
MIME-Version: 1.0

--b
Content-Type: text/cloud-config

#cloud-config
users: [default, {name: anna, groups: [sudo], shell: /bin/bash}]
write_files: [{path: /var/tmp/written, content: für Anna, permissions: "0640", owner: "root:adm"}]
runcmd: [[sh, -c, echo commanded > /var/tmp/command]]
--b
Content-Type: text/x-shellscript
Content-Transfer-Encoding: base64

IyEvYmluL3NoCmVjaG8gc2NyaXB0ZWQgPiAvdmFyL3RtcC9zY3JpcHQK
--b
Content-Type: text/jinja2

## template: jinja
#!/bin/sh
echo {{ v1.local_hostname }} > /var/tmp/template
--b--
"""


@pytest.fixture(autouse=True, scope="session")  # before the cloud: it finds out which emulators there are
def on_request(request: pytest.FixtureRequest) -> None:
    if "guests" not in request.config.option.markexpr:
        pytest.skip("takes minutes: ./pileus test -m guests tests/end_to_end/test_guests.py")
    for purpose in ("debian", "aarch64"):
        if missing := system_packages.install(purpose, output=subprocess.DEVNULL):
            pytest.skip(system_packages.in_words(missing))
    if packages := tools.missing(unpacking=True):
        pytest.skip(f"packages are missing: {packages}")
    if os.geteuid() != 0:
        pytest.skip("needs networks between guests")


@pytest.fixture
def api(machine):
    with machine.api() as client:
        yield client


def launch(api, name: str, image: str, **wishes) -> None:
    body = {"flavor": "tiny", "open_ssh": True, "name": name, "image": image, **wishes}
    answer = api.post(f"{PROJECT}/instances", json=body)
    assert answer.status_code == 202, answer.text


def console(api, name: str) -> str:
    return "\n".join(api.get(f"{PROJECT}/instances/{name}/console-log", params={"lines": 500}).json()["lines"])


def way_in(api, name: str, key: Path) -> list[str]:
    """The command that logs into a Debian."""
    target = {"instance": name, "target_port": 22}
    assert api.post(f"{PROJECT}/port-forwards", json={"name": name, "to": target}).status_code == 201
    path = f"{PROJECT}/port-forwards/{name}"
    wait_until(lambda: api.get(path).json()["status"] == "ready", 60, 0.5, "the way in")
    listen = api.get(path).json()["listen"]
    login = ["-i", str(key), "-p", str(listen["port"]), f"debian@{listen['address']}"]
    return ["ssh", *SSH, "-o", "ConnectTimeout=10", *login]


def test_four_systems_side_by_side(machine, api, tmp_path):
    for wanted, name, architecture in (
        ("debian", "debian", "x86_64"),
        ("ipxe", "ipxe", "x86_64"),
        ("aarch64", "tiny-linux", "aarch64"),
    ):
        offer(machine, wanted, f"{name}-{architecture}", built(name, architecture))
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(api.post(f"{PROJECT}/keypairs", json={"name": "guests"}).json()["secret"])
    assert api.post(f"{PROJECT}/networks", json={"name": "back"}).status_code == 201
    for name, cidr in (("back4", "10.9.0.0/24"), ("back6", "fd12::/64")):
        answer = api.post(f"{PROJECT}/subnets", json={"network": "back", "name": name, "cidr": cidr})
        assert answer.status_code == 201, answer.text
    launch(
        api, "whole", "debian", flavor="small", keypairs=["guests"], user_data=PARTS,
        networks=[{"network": "default"}, {"network": "back"}],
    )  # fmt: skip
    launch(api, "arm", "tiny-linux-aarch64")
    launch(api, "pc", "tiny-linux", user_data=SERVES)
    wait_until(lambda: "READY pc" in console(api, "pc"), SECONDS_TO_BOOT, 1, "the PC is up")
    address = api.get(f"{PROJECT}/instances/pc").json()["addresses"][0]["address"]
    launch(api, "other", "ipxe", user_data=FETCHES.format(address=address))
    wait_until(lambda: "READY arm" in console(api, "arm"), SECONDS_TO_BOOT, 1, "the guest on arm64 is up")
    other = wait_until(
        lambda: api.get(f"{PROJECT}/instances/other").json()["addresses"], 60, 1, "it has an address"
    )[0]["address"]  # fmt: skip
    wait_until(
        lambda: f"/fetched-by-{other}" in console(api, "pc"), SECONDS_TO_BOOT, 1,
        "iPXE has its address and its user data", lambda: console(api, "pc")[-2000:],
    )  # fmt: skip
    check_debian(way_in(api, "whole", key), api)
    running = [one for one in api.get(f"{PROJECT}/instances").json()["items"] if one["status"] == "running"]
    assert {one["image"]["name"] for one in running} >= {"debian", "tiny-linux", "tiny-linux-aarch64", "ipxe"}
    paths = [f"{PROJECT}/instances/{name}" for name in NAMES]
    for path in paths:
        assert api.delete(f"{path}?purge=true").status_code == 202
    wait_until(lambda: all(api.get(path).status_code == 404 for path in paths), 120, 1, "all are gone")


def check_debian(ssh: list[str], api) -> None:
    """What cloud-init and systemd say, and what became of all that was asked for."""

    def said(command: str) -> str:
        done = subprocess.run([*ssh, command], capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}\n{console(api, 'whole')[-3000:]}"
        return done.stdout.strip()

    def lets_in() -> bool:
        return subprocess.run([*ssh, "true"], capture_output=True, check=False, timeout=60).returncode == 0

    wait_until(lets_in, SECONDS_TO_BOOT, 3, "Debian lets in", lambda: console(api, "whole")[-2000:])
    assert "status: done" in said("sudo cloud-init status --wait --long")
    result = json.loads(said("cat /run/cloud-init/result.json"))["v1"]
    assert result["errors"] == []
    assert "NoCloud" in result["datasource"]
    warnings = said("sudo grep -E 'WARNING|ERROR|Traceback' /var/log/cloud-init.log || true")
    assert warnings == ""
    assert said("systemctl is-system-running --wait") == "running"
    assert said("hostname") == "whole"
    instance_id = api.get(f"{PROJECT}/instances/whole").json()["id"]
    assert said("cat /etc/machine-id") == instance_id.replace("-", "")
    assert said("findmnt --noheadings --output FSTYPE /etc/machine-id") == "tmpfs", "no image takes it along"
    assert said("sudo cat /var/tmp/written /var/tmp/command /var/tmp/script /var/tmp/template").split() == [
        "für", "Annacommanded", "scripted", "whole",
    ]  # fmt: skip
    assert said("stat -c '%a %U:%G' /var/tmp/written") == "640 root:adm"
    assert "sudo" in said("id -nG anna")
    mine = re.findall(r"default .*?dev (\S+)", said("ip -4 route show default"))
    assert len(mine) == 1, "one default route"
    addresses = {one["address"] for one in api.get(f"{PROJECT}/instances/whole").json()["addresses"]}
    assert len(addresses) == 3
    seen = {line.split("/")[0] for line in said("ip -o address | awk '{print $4}'").splitlines()}
    assert addresses <= seen
    assert int(said("df --output=size -BM / | tail -1").rstrip("M")) > 4000, "the file system has grown"
    host_key = api.get(f"{PROJECT}/instances/whole").json()["ssh_host_key"]
    assert host_key in said("sudo cat /etc/ssh/ssh_host_ed25519_key.pub")
    check_guest_agent(said, api)


def check_guest_agent(said, api) -> None:
    """Debian's own: it is found, sets a password without a reboot, and holds the file systems still for an image."""
    path = f"{PROJECT}/instances/whole"
    agent = wait_until(lambda: api.get(path).json()["guest_agent"], 120, 1, "the guest agent answers")
    assert (agent["can"], agent["version"][0].isdigit()) == (["freeze", "password"], True)
    before = {what: said(f"sudo {what}") for what in ("cat /proc/sys/kernel/random/boot_id", "getent shadow debian")}
    reset = api.post(f"{path}/reset-password", json={"reboot": True})
    assert reset.status_code == 202, reset.text
    wait_until(lambda: api.get(path).json()["operation"] is None, 120, 0.5, "the password is set")
    assert not api.get(path).json()["password_waits"]
    boot_id, shadow = (said(f"sudo {what}") for what in before)
    assert (boot_id == list(before.values())[0], shadow == list(before.values())[1]) == (True, False)
    hash_ = shadow.split(":")[1]
    assert sha512_crypt.verify(reset.json()["generated_password"], hash_)
    made = api.post(f"{path}/create-image", json={"name": "of-whole"})
    assert made.status_code == 202, made.text
    image = f"{PROJECT}/images/of-whole"
    wait_until(lambda: api.get(image).json()["status"] in ("ready", "failed"), 600, 1, "there is an image of it")
    assert api.get(image).json()["found"]["consistency"] == "filesystem"
    assert said("echo goes on") == "goes on"
    assert api.delete(f"{image}?purge=true").status_code in (202, 204)
