"""An ordinary user's way out of the host: pasta, between the user's namespaces and the host's own network."""

import contextlib
import shutil
import socket
import subprocess

import pytest

from agent.processes import start_time
from tests.network.agent import lab
from tests.network.agent.test_routers import closing, echo, world  # noqa: F401


@pytest.mark.skipif(not shutil.which("pasta"), reason="pasta is not installed (Debian: passt)")
def test_as_an_ordinary_user_a_guest_reaches_the_world_and_not_the_host(make_host, closing):  # noqa: F811
    host = make_host(lab.NOBODY)
    outside = world(host, closing)
    spec = lab.network(host, rules=[lab.ingress()], a="10.0.0.10")
    host.apply(spec)
    host.apply(lab.router((spec, "10.0.0.1/24"), external=True), "router")
    a = closing(lab.Machine(host.guest(spec, "a"), gateway="10.0.0.1"))
    with outside.within():
        echo(closing(socket.create_server(("203.0.113.1", 80))))
    with host.within():
        echo(closing(socket.create_server(("127.0.0.1", 8080))))

    def reaches(address: str, port: int) -> bytes:
        with contextlib.suppress(OSError), a.connect(address, port, seconds=1) as connection:
            return connection.recv(100)
        return b""

    assert lab.wait_for(lambda: reaches("203.0.113.1", 80)) == b"192.0.2.2\n"
    assert host.client.capabilities()["way_out"] == ""
    # Not even by the address that pasta would give to the host's own loopback.
    assert not reaches("192.0.2.1", 8080)
    assert not reaches("127.0.0.1", 8080)
    host.stop()
    host.start()
    assert lab.wait_for(lambda: reaches("203.0.113.1", 80)) == b"192.0.2.2\n"
    pid = int((host.runtime / "network" / "way-out.pid").read_text())
    host.stop()
    subprocess.run([*host.enter, *host.command, "--remove"], env=host.environment, check=True)
    lab.wait_for(lambda: start_time(pid) is None)
