"""The node service: what apps register answers the control plane, or runs beside it."""

import asyncio

import pytest
from websockets.asyncio.server import serve

from agent import node_service
from agent.channels import NotOpened
from agent.membership import Membership
from agent.node_service import NodeService, Server
from agent.paths import Paths
from compute.agent.servers import servers as consoles


class Echo(Server):
    def __init__(self):
        self.asked = []

    async def serve(self, channel, wish):
        self.asked.append(wish)


class Leases(Server):
    """Something like DHCP, which nobody asks for anything over the line. It fails at first."""

    def __init__(self):
        self.runs = 0
        self.works = asyncio.Event()
        self.has_ended = False

    async def run(self):
        self.runs += 1
        if self.runs == 1:
            raise OSError("the socket is taken")
        self.works.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.has_ended = True


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path / "agent", tmp_path / "run")


def test_each_wish_comes_to_the_server_of_its_name(paths):
    echo = Echo()
    service = NodeService(paths, {"echo": echo})

    async def ask():
        await service.serve(None, {"what": "echo", "n": 1})
        with pytest.raises(NotOpened) as refusal:
            await service.serve(None, {"what": "metadata"})
        return refusal.value.code

    assert asyncio.run(ask()) == "not_offered"
    assert echo.asked == [{"what": "echo", "n": 1}]


def test_a_server_runs_beside_the_line_again_when_it_fails_and_ends_with_the_service(paths, monkeypatch):
    monkeypatch.setattr(node_service, "MAX_PAUSE", 0.01)

    async def run():
        leases = Leases()
        service = asyncio.ensure_future(NodeService(paths, {"dhcp": leases}).run())
        await asyncio.wait_for(leases.works.wait(), 5)
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)
        return leases

    leases = asyncio.run(run())
    assert (leases.runs, leases.has_ended) == (2, True)


def test_a_line_that_is_cut_without_a_word_is_made_again(paths, monkeypatch):
    monkeypatch.setattr(node_service, "MIN_PAUSE", 0.01)
    paths.make()

    async def run():
        lines = 0
        again = asyncio.Event()

        async def cut(connection):
            nonlocal lines
            lines += 1
            if lines == 2:
                again.set()
            connection.transport.abort()  # as a control plane does that is killed: no close frame

        async with serve(cut, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            member = Membership(f"http://127.0.0.1:{port}", "1", "node1", "secret", "", "", "", 10)
            member.write(paths.membership)
            service = asyncio.ensure_future(NodeService(paths, {}).run())
            both = {service, asyncio.ensure_future(again.wait())}
            await asyncio.wait(both, return_when="FIRST_COMPLETED", timeout=20)
            has_ended = service.done()
            service.cancel()
            await asyncio.gather(service, return_exceptions=True)
        return lines, has_ended

    lines, has_ended = asyncio.run(run())
    assert not has_ended
    assert lines >= 2


def test_consoles_are_one_server_of_computes(paths):
    registered = consoles(paths)
    assert set(registered) == {"serial", "vnc", "log"}
    assert len(set(registered.values())) == 1
