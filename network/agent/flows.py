"""Flows that the kernel tracks (conntrack), and how those end that may no longer be."""

import ipaddress
import socket
import struct
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from network.agent import groups, nft, reflexive
from network.agent.netlink import NESTED, NETFILTER, Message, Netlink, attribute, parse
from network.agent.pools import WaysIn
from network.agent.rules import REFLEXIVE, SERVICE_ADDRESS, SERVICE_ADDRESS6
from network.agent.specs import PROTOCOLS, Address, NetworkSpec, Port

NFNL_CONNTRACK, CT_GET, CT_DELETE = 1 << 8, 1, 2
CTA_STATUS, SEEN_REPLY = 3, 1 << 1
NO_ANSWER = (ipaddress.IPv4Address(0), ipaddress.IPv4Address(0), 0)  # where addresses are not translated
NAMES = {number: name for name, number in PROTOCOLS.items()}


@dataclass(frozen=True)
class Flow:
    """A flow that the kernel tracks, as its first packet was. `key`: the kernel's own description of it. `answer`:
    source, destination and source port of its answers, which differ where addresses are translated. `is_answered`: some
    have come."""

    source: Address
    destination: Address
    protocol: int
    source_port: int
    destination_port: int  # of ICMP: type * 256 + code
    key: bytes
    answer: tuple[Address, Address, int]
    is_answered: bool = False


def tracked(kernel: Netlink, about: Address | None = None) -> list[Flow]:
    """Every flow that this namespace tracks, or those `about` an address; `kernel` was made for NETFILTER."""
    found, part = [], about.packed if about else b""
    for body in kernel.dump(NFNL_CONNTRACK | CT_GET, struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)):
        if part not in body:  # what is looked for is one of very many: the others are not read
            continue
        attributes = parse(body[4:])
        key = attributes[1]
        source, destination, protocol, ports = _tuple(key)
        answerer, answered, _, (answer_port, _) = _tuple(attributes[2])
        answer = (answerer, answered, answer_port)
        seen = bool(int.from_bytes(attributes.get(CTA_STATUS, b""), "big") & SEEN_REPLY)
        found.append(Flow(source, destination, protocol, *ports, key=body[:1] + key, answer=answer, is_answered=seen))
    return found


def _tuple(data: bytes) -> tuple[Address, Address, int, tuple[int, int]]:
    parts = parse(data)
    ip, proto = parse(parts[1]), parse(parts[2])
    source, destination = (ip[1], ip[2]) if 1 in ip else (ip[3], ip[4])
    if 5 in proto or 8 in proto:
        kind, code = (proto[5], proto[6]) if 5 in proto else (proto[8], proto[9])
        ports = (0, kind[0] << 8 | code[0])
    else:
        ports = (_port(proto.get(2)), _port(proto.get(3)))
    return ipaddress.ip_address(source), ipaddress.ip_address(destination), proto[1][0], ports


def _port(value: bytes | None) -> int:
    return int.from_bytes(value, "big") if value else 0


def forget(kernel: Netlink, cut: Iterable[Flow]) -> None:
    """Stop tracking flows: their next packets are judged as if they were the first."""
    for flow in cut:
        body = struct.pack("=BBH", flow.key[0], 0, 0) + attribute(1 | NESTED, flow.key[1:])
        try:
            kernel.send(Message(NFNL_CONNTRACK | CT_DELETE, 0, body))
        except FileNotFoundError:
            continue  # it has ended meanwhile


def cut_translated(ways: WaysIn, others: Collection[Address]) -> int:
    """Forget flows of a router that lead in, or leave, by other addresses than they would today.

    `others`: what guests leave as when they have no address of their own. To be called inside the router's namespace.
    """
    leaves = {to: address for address, to in ways.addresses.items()}

    def may_be(flow: Flow) -> bool:
        answerer, answered, answer_port = flow.answer
        if answered != flow.source and answered != leaves.get(flow.source) and answered not in others:
            return False
        if answerer == flow.destination:
            return True
        port = ways.ports.get((flow.destination, NAMES.get(flow.protocol, ""), flow.destination_port))
        return port == (answerer, answer_port) if port else ways.addresses.get(flow.destination) == answerer

    return _cut(may_be)


def cut(spec: NetworkSpec, tracking: str) -> None:
    """Forget the flows that today's rules would not let begin. To be called inside the network's namespace."""
    judge = _judge(spec)
    if tracking != REFLEXIVE:
        _cut(judge)
        return
    remembered = nft.read(nft.Table("bridge", "pileus")).sets
    for command in reflexive.ending(remembered, lambda opened: judge(Flow(*opened, key=b"", answer=NO_ANSWER))):
        nft.run(command)


def _judge(spec: NetworkSpec) -> Callable[[Flow], bool]:
    """Tells whether today's rules would let a flow begin."""
    owners = {address: port for port in spec.local for address in (*port.addresses, port.link_local)}
    wide = [(network, port) for port in spec.local for network, _ in port.pairs]

    def owner(address: Address) -> Port | None:
        return owners.get(address) or next((port for network, port in wide if address in network), None)

    def may_be(flow: Flow) -> bool:
        if {str(flow.destination), str(flow.source)} & {SERVICE_ADDRESS, SERVICE_ADDRESS6}:
            return True
        source, destination = owner(flow.source), owner(flow.destination)
        ends = [(source, "egress", flow.destination), (destination, "ingress", flow.source)]
        judged = [
            groups.permits(
                [spec.groups[id] for id in port.groups],
                spec.groups,
                direction,
                (remote, flow.protocol, flow.destination_port),
            )
            for port, direction, remote in ends
            if port
        ]
        return bool(judged) and all(judged)

    return may_be


def _cut(may_be: Callable[[Flow], bool]) -> int:
    with Netlink(NETFILTER) as kernel:
        ended = [flow for flow in tracked(kernel) if not may_be(flow)]
        forget(kernel, ended)
    return len(ended)
