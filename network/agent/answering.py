"""What the guests of one network are answered on this host: DHCP, DHCPv6, router advertisements, DNS, metadata."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from functools import partial
from operator import attrgetter
from pathlib import Path

from network.agent import dhcp, dhcp6, dns, metadata, ra
from network.agent.leases import Leases
from network.agent.networks import service_socket
from network.agent.rules import SERVICE_ADDRESS, SERVICE_ADDRESS6
from network.agent.specs import NetworkSpec

Beside = Callable[[NetworkSpec], Iterable[NetworkSpec]]  # the other networks of its project on this host


class Answering:
    """To be made inside the network's namespace; `begin`, `end` and everything in between are in the event loop."""

    def __init__(
        self, spec: NetworkSpec, gateways: ra.Gateways, about: metadata.Server, beyond: dns.Forwarder, beside: Beside
    ) -> None:
        self._about, self._beyond, self._beside = about, beyond, beside
        self._wire = dhcp.Sockets.open()
        self._readers: list[tuple[socket.socket, Callable[[], None]]] = [(self._wire.heard, self._lease)]
        self._told: list[bytes] = []
        services = [SERVICE_ADDRESS]
        if Path("/proc/sys/net/ipv6").exists():
            services.append(SERVICE_ADDRESS6)
            leases6, solicited = dhcp6.listen(), ra.listen()
            self._readers += [(leases6, partial(self._lease6, leases6)), (solicited, partial(self._lead, solicited))]
        for address in services:
            names = service_socket(address, dns.PORT, socket.SOCK_DGRAM)
            pages = metadata.listen(address)
            self._readers += [(names, partial(self._name, names)), (pages, partial(self._tell, pages))]
        self.leases = Leases()
        self.spec, self._gateways, self._ports = spec, gateways, _by_address(spec)

    def says(self, spec: NetworkSpec, gateways: ra.Gateways) -> bool:
        """Whether guests are answered by this spec as they are now: security groups are no part of it."""
        mine, parts = self.spec, attrgetter("subnets", "mtu", "domain")
        return mine.ports is spec.ports and parts(mine) == parts(spec) and self._gateways == gateways

    def change(self, spec: NetworkSpec, gateways: ra.Gateways) -> None:
        """Answer as this spec says from now on."""
        if spec.ports is not self.spec.ports:
            self._ports = _by_address(spec)
            self.leases.keep({port.id for port in spec.local})
        self.spec, self._gateways = spec, gateways

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        for heard, serve in self._readers:
            loop.add_reader(heard, serve)

    def end(self, loop: asyncio.AbstractEventLoop) -> None:
        for heard, _ in self._readers:
            loop.remove_reader(heard)
            heard.close()
        self._wire.close()
        for port in self.spec.local:
            self._about.forget(port.id)

    def advertise(self, again: bool = True) -> None:
        """Tell all guests of routers and IPv6 subnets; not `again`: only if that has changed."""
        frames = ra.advertisements(self.spec, self._gateways)
        if again or frames != self._told:
            self._told = frames
            ra.send(self._wire.frames, frames)

    def _lease(self) -> None:
        self.leases.note(dhcp.serve(self._wire, self.spec))

    def _lease6(self, heard: socket.socket) -> None:
        self.leases.note(dhcp6.serve(heard, self.spec))

    def _lead(self, heard: socket.socket) -> None:
        ra.serve(heard, self._wire.frames, self.spec, self._gateways)

    def _name(self, heard: socket.socket) -> None:
        with contextlib.suppress(OSError):  # nothing there after all, or the network goes; a guest asks again
            message, source = heard.recvfrom(dns.MAX_MESSAGE)
            if reply := dns.answer(message, self.spec, self._beside(self.spec)):
                heard.sendto(reply, source)
            else:
                self._beyond.ask(message, heard, source)

    def _tell(self, heard: socket.socket) -> None:
        self._about.accept(heard, self._ports)


def _by_address(spec: NetworkSpec) -> dict[str, str]:
    return {str(address): port.id for port in spec.local for address in port.addresses}
