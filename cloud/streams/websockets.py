"""What is spoken on a websocket after web has answered its opening handshake (`handshakes.py`)."""

import asyncio
import socket

from websockets.asyncio.connection import Connection
from websockets.frames import CloseCode
from websockets.protocol import SERVER, Protocol, State

MAX_CLOSE_REASON = 120  # bytes: a control frame has at most 125


async def open_websocket(client: socket.socket, head: bytes, *, max_size: int) -> Connection:
    """Take the client's socket over, and tell it that it is a websocket now."""
    client.setblocking(False)
    protocol = Protocol(SERVER, state=State.OPEN, max_size=max_size)
    _, connection = await asyncio.get_running_loop().connect_accepted_socket(
        lambda: Connection(protocol, close_timeout=2), client
    )
    connection.transport.write(head)
    connection.start_keepalive()
    return connection


def shortened(because: str) -> str:
    """A reason that fits into a closing frame."""
    return because.encode()[:MAX_CLOSE_REASON].decode(errors="ignore")


__all__ = ["CloseCode", "Connection", "open_websocket", "shortened"]
