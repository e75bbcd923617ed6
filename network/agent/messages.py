"""Messages to the kernel that change links, addresses, routes and neighbours: pure functions, for `Netlink.send`."""

import socket
import struct

from network.agent.netlink import (
    AF_BRIDGE,
    APPEND,
    CREATE,
    DELADDR,
    DELLINK,
    DELNEIGH,
    DELROUTE,
    EXCL,
    MASTER,
    NESTED,
    NEWADDR,
    NEWLINK,
    NEWNEIGH,
    NEWROUTE,
    NO_MAC,
    NOARP,
    PERMANENT,
    PROXY,
    REACHABLE,
    REPLACE,
    SELF,
    UP,
    Message,
    attribute,
    mac_bytes,
)
from network.agent.specs import Address, Interface, Network

# Links.


def _link_message(kind: int, flags: int, attributes: bytes, index: int = 0, up: bool | None = None) -> Message:
    states = (0, 0) if up is None else (UP if up else 0, UP)
    return Message(kind, flags, struct.pack("=BxHiII", 0, 0, index, *states) + attributes)


def add_link(
    name: str, kind: str, *, mac: str = "", mtu: int = 0, data: bytes = b"", in_namespace: int = -1
) -> Message:
    """A new device; `in_namespace` is the descriptor of the namespace in which it shall appear."""
    attributes = attribute(3, name)
    attributes += attribute(1, mac_bytes(mac)) if mac else b""
    attributes += attribute(4, mtu) if mtu else b""
    attributes += attribute(28, in_namespace) if in_namespace >= 0 else b""
    attributes += attribute(18 | NESTED, attribute(1, kind) + (attribute(2 | NESTED, data) if data else b""))
    return _link_message(NEWLINK, CREATE | EXCL, attributes)


def add_bridge(name: str, mac: str, mtu: int) -> Message:
    return add_link(name, "bridge", mac=mac, mtu=mtu, data=attribute(23, b"\0"))  # no snooping of multicast


def add_veth(name: str, mac: str, mtu: int, *, peer: str, peer_namespace: int) -> Message:
    """A pair: `name` here, `peer` in another namespace. `mac` "": the kernel chooses one."""
    other = attribute(3, peer) + attribute(4, mtu) + attribute(28, peer_namespace)
    return add_link(name, "veth", mac=mac, mtu=mtu, data=attribute(1 | NESTED, bytes(16) + other))


def add_vxlan(name: str, vni: int, *, local: Address, port: int, mtu: int, in_namespace: int) -> Message:
    """An overlay device that learns nothing; its UDP socket stays in the present namespace."""
    own = attribute(4 if local.version == 4 else 17, local.packed)
    data = attribute(1, vni) + own + attribute(15, struct.pack("!H", port)) + attribute(7, b"\0")
    return add_link(name, "vxlan", mtu=mtu, data=data, in_namespace=in_namespace)


def change_link(index: int, up: bool | None = None, master: int | None = None, mtu: int = 0) -> Message:
    attributes = attribute(10, master) if master is not None else b""
    attributes += attribute(4, mtu) if mtu else b""
    return _link_message(NEWLINK, 0, attributes, index, up)


def remove_link(index: int) -> Message:
    return _link_message(DELLINK, 0, b"", index)


def bridge_port(index: int, **flags: bool) -> Message:
    """Set flags of a bridge's port by their names in the kernel, in lower case."""
    kinds = {"hairpin": 4, "learning": 8, "unicast_flood": 9, "neigh_suppress": 32}
    data = b"".join(attribute(kinds[name], bytes([value])) for name, value in flags.items())
    return _link_message(
        NEWLINK, 0, attribute(18 | NESTED, attribute(4, "bridge") + attribute(5 | NESTED, data)), index
    )


# Addresses, routes, neighbours.


def address(index: int, value: Interface, add: bool = True) -> Message:
    scope = 253 if value.ip.is_link_local else 0
    no_duplicate_detection = 0x02 if value.version == 6 else 0
    body = struct.pack("=BBBBi", family(value), value.network.prefixlen, no_duplicate_detection, scope, index)
    body += attribute(2, value.packed) + attribute(1, value.packed)
    return Message(NEWADDR if add else DELADDR, CREATE | REPLACE if add else 0, body)


def route(
    destination: Network,
    index: int = 0,
    gateway: Address | None = None,
    source: Address | None = None,
    add: bool = True,
) -> Message:
    """A route of the main table; a gateway need not be inside a network of the device."""
    scope = 253 if gateway is None and destination.version == 4 else 0
    onlink = 4 if gateway and index else 0
    body = struct.pack("=8BI", family(destination), destination.prefixlen, 0, 0, 254, 4, scope, 1, onlink)
    body += attribute(1, destination.network_address.packed) if destination.prefixlen else b""
    body += attribute(4, index) if index else b""
    body += attribute(5, gateway.packed) if gateway else b""
    body += attribute(7, source.packed) if source else b""
    return Message(NEWROUTE if add else DELROUTE, CREATE | REPLACE if add else 0, body)


def neighbour(index: int, value: Address, mac: str, add: bool = True) -> Message:
    """A permanent entry: asked for this address, the device answers (or sends) by itself."""
    attributes = attribute(2, mac_bytes(mac)) + attribute(1, value.packed)
    return _entry(family(value), index, state=PERMANENT, flags=0, attributes=attributes, add=add)


def proxy(index: int, value: Address, add: bool = True) -> Message:
    """The device answers for this address, which a route leads elsewhere."""
    attributes = attribute(1, value.packed)
    return _entry(family(value), index, state=PERMANENT, flags=PROXY, attributes=attributes, add=add)


def bridge_entry(index: int, mac: str, add: bool = True) -> Message:
    """Frames to this MAC leave the bridge by this port. Static: "permanent" would mean a MAC of the host itself."""
    attributes = attribute(2, mac_bytes(mac))
    return _entry(AF_BRIDGE, index, state=NOARP | REACHABLE, flags=MASTER, attributes=attributes, add=add)


def overlay_entry(index: int, mac: str, peer: Address, add: bool = True) -> Message:
    """Frames to this MAC (NO_MAC: broadcasts too) go to that peer."""
    attributes = attribute(2, mac_bytes(mac)) + attribute(1, peer.packed)
    message = _entry(AF_BRIDGE, index, state=NOARP | PERMANENT, flags=SELF, attributes=attributes, add=add)
    return Message(message.kind, CREATE | APPEND, message.body) if add and mac == NO_MAC else message


def _entry(family: int, index: int, *, state: int, flags: int, attributes: bytes, add: bool) -> Message:
    body = struct.pack("=BBHiHBB", family, 0, 0, index, state, flags, 0) + attributes
    return Message(NEWNEIGH if add else DELNEIGH, CREATE | REPLACE if add else 0, body)


def family(value: Address | Interface | Network) -> int:
    return socket.AF_INET if value.version == 4 else socket.AF_INET6
