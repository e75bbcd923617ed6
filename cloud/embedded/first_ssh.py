"""The way into the first virtual machine: a key of its own, a rule that lets SSH in, a port of 127.0.0.1."""

import time
from typing import Any

from cloud.embedded.api import Api
from cloud.embedded.files import write_file
from cloud.embedded.paths import Home

KEY, GROUP, FORWARD = "first", "ssh", "first-ssh"
PROJECT = "/projects/demo"
SECONDS_TO_OPEN = 10.0


def key_and_group(home: Home, demo: Api) -> dict[str, Any]:
    """What the launch has to say, for its guest to let somebody in. Run again it makes what is missing."""
    if not (home.ssh_key.exists() and _find(demo, "keypairs", KEY)):
        if _find(demo, "keypairs", KEY):
            demo.call("DELETE", f"{PROJECT}/keypairs/{KEY}")
        write_file(home.ssh_key, demo.call("POST", f"{PROJECT}/keypairs", json={"name": KEY})["secret"])
    if not _find(demo, "security-groups", GROUP):
        rules = [{"direction": "ingress", "protocol": "tcp", "port_min": 22, "description": "from anywhere"}]
        group = {"name": GROUP, "description": "Lets SSH in.", "rules": rules}
        demo.call("POST", f"{PROJECT}/security-groups", json=group)
    return {"keypairs": [KEY], "security_groups": ["default", GROUP]}


def open_way(home: Home, demo: Api, instance: str) -> str:
    """Lead a port there, where its host carries networks. The command that logs in, or why there is none."""
    row = demo.call("GET", f"{PROJECT}/instances/{instance}")
    if not row["addresses"]:
        return f"no SSH: {row['address_reason'] or 'it has no address'}"
    forward = _find(demo, "port-forwards", FORWARD) or demo.call(
        "POST", f"{PROJECT}/port-forwards", json={"name": FORWARD, "to": {"instance": instance, "target_port": 22}}
    )
    until = time.monotonic() + SECONDS_TO_OPEN
    while forward["status"] != "ready" and time.monotonic() < until:
        time.sleep(0.1)
        forward = demo.call("GET", f"{PROJECT}/port-forwards/{FORWARD}")
    if forward["status"] != "ready":
        return f"no SSH yet: {forward['status_reason']}"
    return f"ssh -i {home.ssh_key} -p {forward['listen']['port']} root@{forward['listen']['address']}"


def _find(demo: Api, collection: str, name: str) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = demo.call("GET", f"{PROJECT}/{collection}", params={"name": name})["items"]
    return found[0] if found else None
