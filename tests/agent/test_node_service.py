"""The node service: what apps register answers the control plane, or runs beside it."""

import asyncio

import pytest

from agent import node_service
from agent.channels import NotOpened
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


def test_consoles_are_one_server_of_computes(paths):
    registered = consoles(paths)
    assert set(registered) == {"serial", "vnc", "log"}
    assert len(set(registered.values())) == 1
