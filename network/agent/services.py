"""What the network process answers by itself, in its event loop: DHCP, DNS and metadata in each network, ports.

`Plane` calls these methods from its own thread; sockets are made there, inside the namespaces, and served in the loop.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from network.agent import dhcp, dns, metadata
from network.agent.forwards import Forwarder
from network.agent.namespaces import Namespaces
from network.agent.outside import Outside
from network.agent.specs import Forward, NetworkSpec, RouterSpec


@dataclass
class _Answering:
    spec: NetworkSpec
    leases: dhcp.Sockets
    names: socket.socket
    about: socket.socket

    @property
    def ports(self) -> dict[str, str]:
        return {str(address): port.id for port in self.spec.local for address in port.addresses}


def _answer_dhcp(answering: _Answering) -> None:
    dhcp.serve(answering.leases, answering.spec)


def _answer_dns(answering: _Answering, beyond: dns.Forwarder) -> None:
    with contextlib.suppress(OSError):  # nothing there after all, or the network goes; a guest asks again
        message, source = answering.names.recvfrom(dns.MAX_MESSAGE)
        if reply := dns.answer(message, answering.spec):
            answering.names.sendto(reply, source)
        else:
            beyond.ask(message, answering.names, source)


def _hear(beyond: dns.Forwarder) -> None:
    with contextlib.suppress(OSError):
        beyond.hear()


class Services:
    def __init__(self, loop: asyncio.AbstractEventLoop, namespaces: Namespaces, outside: Outside) -> None:
        self._loop = loop
        self._namespaces = namespaces
        self._outside = outside
        self.metadata = metadata.Server()
        self._networks: dict[str, _Answering] = {}
        self._beyond: dns.Forwarder | None = None
        self._forwarders: dict[str, dict[Forward, Forwarder]] = {}

    def answer(self, spec: NetworkSpec, namespace: str) -> None:
        """Answer the guests of a network from now on as this spec says."""
        if answering := self._networks.get(spec.id):
            answering.spec = spec
            return
        with self._namespaces.within(namespace):
            answering = self._networks[spec.id] = _Answering(spec, dhcp.Sockets.open(), dns.listen(), metadata.listen())
        if self._beyond is None:
            self._beyond = dns.Forwarder(self._outside.listen("udp", "0.0.0.0", 0))  # noqa: S104 - asks, is not asked
            self._in_loop(partial(self._loop.add_reader, self._beyond.out, partial(_hear, self._beyond)))
        self._in_loop(
            partial(self._loop.add_reader, answering.leases.heard, partial(_answer_dhcp, answering)),
            partial(self._loop.add_reader, answering.names, partial(_answer_dns, answering, self._beyond)),
            partial(self._loop.add_reader, answering.about, partial(self._tell, answering)),
        )

    def forward(self, spec: RouterSpec, forwards: Collection[Forward], namespace: str) -> dict[str, str]:
        """Listen for these forwards of a router, and no more for others; gives back where that cannot be, and why."""
        present, wanted = self._forwarders.setdefault(spec.id, {}), set(forwards)
        self._in_loop(*(present.pop(forward).close for forward in present.keys() - wanted))
        problems = {}
        for forward in wanted - present.keys():
            address, port = str(forward.listen[0]), forward.listen[1]
            try:
                listener = self._outside.listen(forward.protocol, address, port)
            except OSError as error:
                problems[forward.id] = f"cannot listen on {address} port {port}: {error.strerror}"
                continue
            self._in_loop(partial(self._open, forward, listener, spec.id, namespace))
        return problems

    def forget(self, id: str) -> None:
        """Answer nothing more for a network or router."""
        self._in_loop(*(each.close for each in self._forwarders.pop(id, {}).values()))
        if answering := self._networks.pop(id, None):
            self._in_loop(
                partial(self._loop.remove_reader, answering.leases.heard),
                partial(self._loop.remove_reader, answering.names),
                partial(self._loop.remove_reader, answering.about),
                answering.leases.close,
                answering.names.close,
                answering.about.close,
                *(partial(self.metadata.forget, port.id) for port in answering.spec.local),
            )

    def _tell(self, answering: _Answering) -> None:
        self.metadata.accept(answering.about, answering.ports)

    def _open(self, forward: Forward, listener: socket.socket, router: str, namespace: str) -> None:
        def make(family: int, kind: int) -> socket.socket:
            with self._namespaces.within(namespace):
                return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

        self._forwarders[router][forward] = Forwarder(forward, listener, make)

    def _in_loop(self, *calls: Callable[[], object]) -> None:
        """Make calls in the event loop's thread, and wait until they are done."""

        async def make_all() -> None:
            for call in calls:
                call()

        if calls:
            asyncio.run_coroutine_threadsafe(make_all(), self._loop).result()
