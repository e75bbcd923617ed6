"""The node service: what has to answer on a host while everything else may be away. `pileus-agent node`

It reads the ledger and changes nothing. One outbound websocket leads to the control plane, which asks over it for what
is on this host (`channels.py`). When it is cut it is made again, for as long as that takes. What answers is a server of
some app, registered in `<app>/agent/servers.py`: a function `servers(paths)` returns them by what they are asked for.
"""

import asyncio
import contextlib
import random
import signal
from collections.abc import Mapping
from typing import Any

import structlog
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from agent import apps
from agent.channels import MAX_MESSAGE, Channel, Line, NotOpened
from agent.membership import Membership
from agent.paths import Paths

log = structlog.get_logger()

MIN_PAUSE, MAX_PAUSE = 0.5, 15.0


class Server:
    """Something that the node service does."""

    async def serve(self, channel: Channel, wish: dict[str, Any]) -> None:
        """Answer the control plane, which asks for `wish["what"]`. The channel closes on return. Raises NotOpened."""
        raise NotOpened("not_offered", f"nobody asks for {wish['what']}")

    async def run(self) -> None:
        """What it does beside that, until it is cancelled. When it fails it is run again."""


class NodeService:
    """`run` until cancelled. `servers`: by what the control plane asks for."""

    def __init__(self, paths: Paths, servers: Mapping[str, Server]) -> None:
        self._paths = paths
        self._servers = servers
        self._trouble = ""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_connected())
            for server in set(self._servers.values()):
                tasks.create_task(self._keep_running(server))

    async def serve(self, channel: Channel, wish: dict[str, Any]) -> None:
        """Raises NotOpened."""
        server = self._servers.get(str(wish.get("what")))
        if server is None:
            raise NotOpened("not_offered", f"this host does not offer {wish.get('what')}")
        await server.serve(channel, wish)

    @staticmethod
    async def _keep_running(server: Server) -> None:
        while True:
            try:
                return await server.run()
            except Exception:
                log.exception("a server failed", server=type(server).__name__, again_in=MAX_PAUSE)
            await asyncio.sleep(MAX_PAUSE)

    async def _keep_connected(self) -> None:
        pause = MIN_PAUSE
        while True:
            began = asyncio.get_running_loop().time()
            self._tell(await self._stay_connected())
            if asyncio.get_running_loop().time() - began > MAX_PAUSE:
                pause = MIN_PAUSE
            # Not all hosts at once, when they all lost the same control plane.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, MAX_PAUSE)

    async def _stay_connected(self) -> str:
        """Returns when the connection ends or cannot be made, with the reason."""
        try:
            member = Membership.read(self._paths.membership)  # anew: the control plane may have moved
        except (OSError, ValueError) as error:
            return f"this host has not joined a control plane: {error}"
        url = "ws" + member.url.removeprefix("http") + "/agent/v1/stream"
        headers = {"Authorization": f"Bearer {member.token}"}
        try:
            async with connect(
                url,
                additional_headers=headers,
                compression=None,
                proxy=None,
                max_size=MAX_MESSAGE,
                close_timeout=2,
            ) as connection:
                self._tell("")
                await Line(connection, self.serve).run()
                return f"the control plane hung up: {connection.close_reason or 'no reason given'}"
        except (OSError, InvalidHandshake, InvalidURI, ConnectionClosed, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"

    def _tell(self, trouble: str) -> None:
        """Once for each change, not at every try."""
        if trouble != self._trouble:
            if trouble:
                log.warning("no connection to the control plane", problem=trouble)
            else:
                log.info("connected to the control plane")
        self._trouble = trouble


def run(paths: Paths) -> int:
    """Serve until told to stop; the exit status."""
    servers: dict[str, Server] = {}
    for module in apps.modules("servers"):
        servers |= module.servers(paths)

    async def serve() -> None:
        service = asyncio.ensure_future(NodeService(paths, servers).run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, service.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await service

    asyncio.run(serve())
    return 0
