"""This machine as a host of its own cloud: it joins with a one-time token, like any other."""

import json
import re
import socket
import subprocess
from urllib.parse import urlsplit, urlunsplit

from cloud.embedded import environment
from cloud.embedded.accounts import myself
from cloud.embedded.api import Api
from cloud.embedded.errors import Trouble
from cloud.embedded.files import write_file
from cloud.embedded.memory import Memory
from cloud.embedded.paths import TREE, Home
from cloud.server_addresses import without_credentials


def host_name() -> str:
    """The machine's name as a resource name: lower-case letters, digits and hyphens."""
    name = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")[:63].strip("-")
    return name if re.match(r"[a-z]", name) else f"host-{name}".rstrip("-")


def has_joined(home: Home) -> bool:
    return (home.agent / "agent.json").exists()


def heard_from(home: Home, api: Api) -> str:
    """The host's name when the control plane has heard from it lately, otherwise nothing."""
    membership = json.loads((home.agent / "agent.json").read_text())
    host = api.call("GET", f"/hosts/{membership['host_id']}")
    return str(host["name"]) if host["status"] != "unreachable" else ""


def knows_its_networks(home: Home, api: Api) -> bool:
    """Whether its network process has answered: with networks, or with what this machine lacks for them."""
    membership = json.loads((home.agent / "agent.json").read_text())
    told = api.call("GET", f"/hosts/{membership['host_id']}")["capabilities"].get("network", {})
    return bool(told.get("networks")) or "process" not in told.get("missing", {"process": ""})


def architectures(home: Home) -> set[str]:
    """What machines this one can run, by what its agent finds out."""
    done = _agent(home, "capabilities")
    if done.returncode != 0:
        raise Trouble(f"this machine cannot tell what it can run: {done.stderr.strip()[-600:]}")
    return set(json.loads(done.stdout)["architectures"])


def join(home: Home, url: str, api: Api) -> None:
    """Makes this machine a host."""
    token = api.call("POST", "/hosts/join-tokens", json={})["secret"]
    done = _agent(home, "join", url, "-", "--name", host_name(), told=token + "\n")
    if done.returncode != 0:
        raise Trouble(f"this machine could not join as a host: {(done.stdout + done.stderr).strip()[-600:]}")


def _agent(home: Home, *arguments: str, told: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the agent. `told`: what it reads on standard input, as others can read its arguments."""
    command = [str(home.venv / "bin" / "pileus-agent"), "--home", str(home.agent), *arguments]
    env = environment.host(home, Memory.of(home))
    return myself().run(command, env=env, cwd=TREE, input=told, capture_output=True)


def tell_addresses(home: Home, memory: Memory, url: str) -> bool:
    """After a change of ports: the host learns where its control plane is now. True when that was news."""
    file = home.agent / "agent.json"
    known = json.loads(file.read_text())
    server = memory.host_redis_url or without_credentials(environment.redis_url(memory))
    login = urlsplit(known["redis_url"]).netloc.rpartition("@")[0]
    parts = urlsplit(server)
    told = known | {"url": url, "redis_url": urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))}
    if told == known:
        return False
    write_file(file, json.dumps(told, indent=1))
    return True
