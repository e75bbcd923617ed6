"""What the ports of a network have sent and received, and what was dropped of theirs: one question each for all ports.

A rule that drops notes the port and the rule's number in a set whose elements count. Whoever drops nothing for a day is
forgotten there, and counts from nought again.
"""

import struct
from collections import defaultdict
from typing import Any

from network.agent.netlink import NETFILTER, Netlink, attribute, attributes, parse
from network.agent.nft import Set
from network.agent.specs import NetworkSpec

REASONS = {
    "spoofed_mac": "from a MAC that is not the port's",
    "spoofed_arp": "ARP that claims another's address",
    "spoofed_address": "from an IP address that is not the port's",
    "spoofed_neighbour": "a neighbour advertisement of another's address",
    "rogue_dhcp": "answers of a DHCP server that is not the network's",
    "rogue_router": "router advertisements and redirects of a port",
    "not_ip": "neither IP nor ARP",
    "egress_refused": "no security group lets it out",
    "ingress_refused": "no security group lets it in",
    "not_tracked": "of a TCP connection that is not open, or was cut",
}
NUMBERS = {reason: number for number, reason in enumerate(REASONS, 1)}
BY_NUMBER = dict(enumerate(REASONS, 1))
DROPPED = Set("type ifname . mark ; flags dynamic,timeout ; timeout 1d ; size 65536", is_kernels=True)
NFNL_NFTABLES, GET_ELEMENTS, BRIDGE_FAMILY = 10 << 8, 13, 7
NAME_SIZE = 16  # of a device, in a set


def drop(reason: str, port: str = "iifname") -> str:
    """The end of a rule: the packet goes no further, and it is counted at the port from, or to, which it came."""
    return f"meta mark set {NUMBERS[reason]} update @dropped {{ {port} . meta mark counter }} drop"


def of_ports(spec: NetworkSpec) -> dict[str, dict[str, Any]]:
    """Per plugged port, as its guest sees it: packets and bytes received and sent; packets "dropped", by reason.

    To be called inside the network's namespace.
    """
    with Netlink() as kernel:
        links = kernel.links()
    with Netlink(NETFILTER) as kernel:
        drops = _drops(kernel)
    found = {}
    for port in spec.local:
        if link := links.get(port.device):
            (sent, sent_bytes), (received, received_bytes) = link.received, link.sent
            found[port.id] = {
                "received_packets": received, "received_bytes": received_bytes,
                "sent_packets": sent, "sent_bytes": sent_bytes,
                "dropped": drops.get(port.device, {}),
            }  # fmt: skip
    return found


def _drops(kernel: Netlink) -> dict[str, dict[str, int]]:
    """Packets dropped, by device and reason."""
    question = struct.pack("=BBH", BRIDGE_FAMILY, 0, 0) + attribute(1, "pileus") + attribute(2, "dropped")
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for body in kernel.dump(NFNL_NFTABLES | GET_ELEMENTS, question):
        for _, element in attributes(parse(body[4:]).get(3, b"")):
            parts = parse(element)
            key, counter = parse(parts[1])[1], parse(parse(parts[7])[2])
            device = key[:NAME_SIZE].rstrip(b"\0").decode()
            (number,) = struct.unpack_from("=I", key, NAME_SIZE)
            if number in BY_NUMBER:
                found[device][BY_NUMBER[number]] = int.from_bytes(counter[2], "big")
    return found
