"""What networks' part of the node service answers: what is seen of a guest that nobody can reach."""

import asyncio
from typing import Any

from agent.channels import Channel, NotOpened
from agent.errors import NoAnswer, Refused
from agent.node_service import Server
from agent.paths import Paths
from network.agent.client import NetworkProcess

WHAT = "probe"
MAX_AT_ONCE = 4
SECONDS_TO_ANSWER = 1.9  # the control plane waits two


def servers(paths: Paths) -> dict[str, Server]:
    """By what the control plane asks for."""
    return {WHAT: Probes(NetworkProcess(paths, SECONDS_TO_ANSWER))}


class Probes(Server):
    """Asks the host's network process, which asks the guest. The whole answer is in the facts of the channel."""

    def __init__(self, process: NetworkProcess) -> None:
        self._process = process
        self._under_way = 0

    async def serve(self, channel: Channel, wish: dict[str, Any]) -> None:
        if self._under_way >= MAX_AT_ONCE:
            raise NotOpened("busy", f"{MAX_AT_ONCE} guests are being looked at: ask again")
        self._under_way += 1
        port, address, protocol = (str(wish.get(name)) for name in ("port", "address", "protocol"))
        number, beside = wish.get("number"), {name: wish.get(name) for name in ("outside", "towards")}
        try:
            seen = await asyncio.to_thread(self._process.probe, port, address, protocol, number, **beside)
        except Refused as refusal:
            raise NotOpened("refused", str(refusal)) from refusal
        except NoAnswer as silence:
            raise NotOpened("not_running", str(silence)) from silence
        finally:
            self._under_way -= 1
        await channel.opened(seen=seen)
