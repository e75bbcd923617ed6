"""What the network process answers by itself, in its event loop: all that guests ask for, and ports of the host.

`Plane` calls these methods from its own thread; sockets are made there, inside the namespaces, and served in the loop.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection, Iterator
from functools import partial

from network.agent import dns, metadata, ra
from network.agent.answering import Answering
from network.agent.forwards import Forwarder
from network.agent.leases import Leases
from network.agent.namespaces import Namespaces
from network.agent.outside import Outside
from network.agent.router_specs import Forward, RouterSpec
from network.agent.specs import NetworkSpec


def _hear(beyond: dns.Forwarder, out: socket.socket) -> None:
    with contextlib.suppress(OSError):
        beyond.hear(out)


class Services:
    def __init__(self, loop: asyncio.AbstractEventLoop, namespaces: Namespaces, outside: Outside) -> None:
        self._loop = loop
        self._namespaces = namespaces
        self._outside = outside
        self.metadata = metadata.Server()
        self._networks: dict[str, Answering] = {}
        self._beyond: dns.Forwarder | None = None
        self._forwarders: dict[str, dict[Forward, Forwarder]] = {}
        loop.call_later(ra.SECONDS_BETWEEN, self._advertise)

    def answer(self, spec: NetworkSpec, namespace: str, gateways: ra.Gateways) -> None:
        """Answer the guests of a network as this spec says from now on."""
        answering = self._networks.get(spec.id)
        if answering is None:
            beyond = self._forwarder()
            with self._namespaces.within(namespace):
                answering = Answering(spec, gateways, self.metadata, beyond, self._beside)
            self._networks[spec.id] = answering
            self._in_loop(partial(answering.begin, self._loop))
        elif answering.says(spec, gateways):
            return
        self._in_loop(partial(answering.change, spec, gateways), partial(answering.advertise, again=False))

    def _beside(self, spec: NetworkSpec) -> Iterator[NetworkSpec]:
        for each in list(self._networks.values()):
            if each.spec.project == spec.project != "" and each.spec.id != spec.id:
                yield each.spec

    def leases(self, network: str) -> Leases | None:
        """What the guests of a network were told by DHCP; None when they are not answered."""
        answering = self._networks.get(network)
        return answering.leases if answering else None

    def _forwarder(self) -> dns.Forwarder:
        """The one that asks the host's resolvers, in the host's own network."""
        if self._beyond is None:
            outs = {}
            for version, address in ((4, "0.0.0.0"), (6, "::")):  # noqa: S104 - asks, is not asked
                with contextlib.suppress(OSError):  # a host without IPv6
                    outs[version] = self._outside.listen("udp", address, 0)
            self._beyond = dns.Forwarder(outs)
            self._in_loop(
                *(partial(self._loop.add_reader, out, partial(_hear, self._beyond, out)) for out in outs.values())
            )
        return self._beyond

    def _advertise(self) -> None:
        for answering in list(self._networks.values()):
            answering.advertise()
        self._loop.call_later(ra.SECONDS_BETWEEN, self._advertise)

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
            self._in_loop(partial(answering.end, self._loop))

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
