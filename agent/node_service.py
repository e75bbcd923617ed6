"""The node service: what has to answer on a host while everything else may be away. `pileus-agent node`

It reads the ledger and changes nothing. One outbound websocket leads to the control plane, which asks over it for what
is on this host (`channels.py`). When it is cut it is made again, for as long as that takes.
"""

import asyncio
import contextlib
import random
import signal

import structlog
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidURI

from agent.channels import LARGEST_MESSAGE, Line
from agent.membership import Membership
from agent.paths import Paths
from compute.agent.consoles import Consoles

log = structlog.get_logger()

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0


class NodeService:
    """`run` until cancelled."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._consoles = Consoles(paths)
        self._trouble = ""

    async def run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            began = asyncio.get_running_loop().time()
            self._tell(await self._stay_connected())
            if asyncio.get_running_loop().time() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            # Not all hosts at once, when they all lost the same control plane.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, LONGEST_PAUSE)

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
                max_size=LARGEST_MESSAGE,
                close_timeout=2,
            ) as connection:
                self._tell("")
                await Line(connection, self._consoles.serve).run()
                return f"the control plane hung up: {connection.close_reason or 'no reason given'}"
        except (OSError, InvalidHandshake, InvalidURI, TimeoutError) as error:
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

    async def serve() -> None:
        service = asyncio.ensure_future(NodeService(paths).run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, service.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await service

    asyncio.run(serve())
    return 0
