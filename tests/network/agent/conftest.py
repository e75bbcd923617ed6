"""Hosts to try networks on, as root and as an ordinary user."""

import ctypes.util
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hosts import control_plane, open_home  # noqa: F401
from tests.network.agent.lab import NOBODY, ROOT, Host


def why_not_as(uid: int) -> str:
    """Why the network process cannot be tried as this user; "" when it can."""
    if os.geteuid() != 0:
        return "only root can make the hosts of these tests"
    if not ctypes.util.find_library("nftables"):
        return "libnftables is not installed"
    if uid:
        if any(directory.stat().st_mode & 0o005 != 0o005 for directory in (ROOT, *ROOT.parents)):
            return f"ordinary users cannot read {ROOT}"
        for setting in ("kernel/unprivileged_userns_clone", "user/max_user_namespaces"):
            file = Path("/proc/sys", setting)
            if file.exists() and file.read_text().strip() == "0":
                return f"this kernel allows ordinary users no user namespaces ({setting})"
    return ""


def _hosts() -> Iterator[Callable[..., Host]]:
    """Makes hosts; the path of their sockets is short, and open to ordinary users."""
    hosts: list[Host] = []
    with tempfile.TemporaryDirectory(prefix="net-", dir="/tmp") as directory:  # noqa: S108
        os.chmod(directory, 0o755)

        def make(uid: int = 0, **settings: str) -> Host:
            if why := why_not_as(uid):
                pytest.skip(why)
            hosts.append(Host(Path(directory, f"h{len(hosts)}"), uid, **settings))
            return hosts[-1]

        yield make
        for host in hosts:
            host.close()


make_host = pytest.fixture(_hosts)
make_shared_host = pytest.fixture(scope="module")(_hosts)


@pytest.fixture(params=[0, NOBODY], ids=["root", "user"], scope="module")
def shared_host(request: pytest.FixtureRequest, make_shared_host: Callable[..., Host]) -> Host:
    return make_shared_host(request.param)


@pytest.fixture
def host(shared_host: Host) -> Iterator[Host]:
    """A host whose network process runs as root, and one where an ordinary user runs it; tests leave it running."""
    yield shared_host
    for type in ("router", "network"):
        for each in shared_host.client.inventory()["resources"]:
            if each["type"] == type:
                shared_host.client.remove(type, each["id"])
