"""Ports of the host that lead to guests: accepted outside, connected inside, copied in between.

The socket to the guest is made in the router's namespace, so security groups judge it as any other neighbour.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from network.agent.router_specs import Forward

CHUNK = 1 << 18
SECONDS_TO_CONNECT = 10.0
SECONDS_OF_SILENCE = 60.0  # after which a sender of datagrams is forgotten
MAX_SENDERS = 1000  # of datagrams, per forward

SocketMaker = Callable[[int, int], socket.socket]  # (family, type), in the namespace of the forward's router


class Forwarder:
    """One forward while it is open. Methods are called in the event loop's thread."""

    def __init__(self, forward: Forward, listener: socket.socket, make: SocketMaker) -> None:
        self.forward = forward
        self._listener = listener
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._senders: dict[object, _Sender] = {}
        start = self._accept if forward.protocol == "tcp" else self._relay
        self._loop.add_reader(listener, start)

    def close(self) -> None:
        """Close the port and every connection that came by it."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        for sender in list(self._senders.values()):
            sender.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            client.setblocking(False)
            task = self._loop.create_task(self._connect(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: socket.socket) -> None:
        """Connect to the guest; when it does not answer, the client sees its connection end."""
        with client:
            guest = self._make(_family(self.forward), socket.SOCK_STREAM)
            with guest:
                address = (str(self.forward.to[0]), self.forward.to[1])
                with contextlib.suppress(OSError, TimeoutError):
                    await asyncio.wait_for(self._loop.sock_connect(guest, address), SECONDS_TO_CONNECT)
                    for end in (client, guest):
                        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    await asyncio.gather(self._copy(client, guest), self._copy(guest, client))

    async def _copy(self, source: socket.socket, target: socket.socket) -> None:
        while data := await self._loop.sock_recv(source, CHUNK):
            await self._loop.sock_sendall(target, data)
        target.shutdown(socket.SHUT_WR)

    def _relay(self) -> None:
        with contextlib.suppress(OSError):
            data, client = self._listener.recvfrom(65535)
            sender = self._senders.get(client)
            if sender is None:
                if len(self._senders) >= MAX_SENDERS:
                    return
                guest = self._make(_family(self.forward), socket.SOCK_DGRAM)
                guest.connect((str(self.forward.to[0]), self.forward.to[1]))
                sender = self._senders[client] = _Sender(
                    guest,
                    answer=lambda reply: self._listener.sendto(reply, client),
                    forget=lambda: self._senders.pop(client, None),
                )
            sender.send(data)


class _Sender:
    """One sender of datagrams and its socket to the guest, until it falls silent."""

    def __init__(self, guest: socket.socket, answer: Callable[[bytes], object], forget: Callable[[], object]) -> None:
        self._guest, self._answer, self._forget = guest, answer, forget
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.call_later(SECONDS_OF_SILENCE, self.close)
        self._loop.add_reader(guest, self._reply)

    def send(self, data: bytes) -> None:
        self._end.cancel()
        self._end = self._loop.call_later(SECONDS_OF_SILENCE, self.close)
        with contextlib.suppress(OSError):
            self._guest.send(data)

    def close(self) -> None:
        self._end.cancel()
        self._loop.remove_reader(self._guest)
        self._guest.close()
        self._forget()

    def _reply(self) -> None:
        with contextlib.suppress(OSError):
            self._answer(self._guest.recv(65535))


def _family(forward: Forward) -> int:
    return socket.AF_INET if forward.to[0].version == 4 else socket.AF_INET6
