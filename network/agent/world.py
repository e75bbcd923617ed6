"""The host's own network, as its routers and overlays need it: ways out and in, and where tunnels end."""

import contextlib
import os
from collections.abc import Collection

from network.agent import edge, nft, pools, routers, way_out6
from network.agent.namespaces import Namespaces
from network.agent.netlink import Netlink
from network.agent.outside import WAY_OUT_DEVICE, Outside
from network.agent.probe import Abilities
from network.agent.rivals import Rival
from network.agent.router_specs import RouterSpec
from network.agent.specs import Address, NetworkSpec


class World:
    """Methods enter namespaces with the calling thread."""

    def __init__(
        self, namespaces: Namespaces, abilities: Abilities, side: edge.Side, outside: Outside, rulesets: nft.Rulesets
    ) -> None:
        self._namespaces = namespaces
        self._abilities = abilities
        self._side = side
        self._pools = side.pools
        self._outside = outside
        self._rulesets = rulesets
        self._no_way_out = ""

    def keep(self, routed: Collection[RouterSpec], here: Collection[NetworkSpec]) -> set[str]:
        """Let routers' packets leave by the host's own network, and only peers' and what leads in come in; mends what
        has gone since. Returns the devices of pools that this host does not have."""
        external, floating, answered = {}, set(), set()
        for spec in routed:
            if spec.external and (address := routers.own_address(self._namespaces, spec)):
                device = routers.way_out_device(spec)
                external[device] = str(address)
                for outside in pools.ways_in(spec, self._pools)[0].outside:
                    floating.add((device, str(outside)))
                    if (segment := self._pools.device(outside)) and segment != pools.ROUTED:
                        answered.add((segment, str(outside)))
        overlay = {(str(vtep), str(spec.vni)) for spec in here for vtep in spec.peers.values()}
        needs = edge.Needs(external, frozenset(overlay), frozenset(floating), frozenset(answered))
        with self._namespaces.within(None), Netlink() as kernel:
            links = kernel.links()
            if external and WAY_OUT_DEVICE not in links:  # does nothing in the host's own network
                self._no_way_out = self._outside.lead_out(self._namespaces.anchor)
            edge.apply(self._side, needs, kernel)
        led = [spec for spec in routed if routers.way_out_device(spec) in external]
        way_out6.apply(self._namespaces, self._rulesets, self._side.table, led)
        return self._pools.devices - links.keys()

    def rival(self, address: Address) -> Rival | None:
        """Who else has an address that comes in by a segment; None where it does not."""
        device = self._pools.device(address)
        if device is None or device == pools.ROUTED:
            return None
        with self._namespaces.within(None), contextlib.suppress(OSError, KeyError):  # the host has no such device
            return Rival(device, address)
        return None

    def way_out(self) -> str:
        """ "" when guests can reach the world through this host, otherwise why not, in words."""
        with self._namespaces.within(None), Netlink() as kernel:
            if edge.uplink(kernel):
                return ""
            return self._no_way_out or "guests have no way out: this host has no default route"

    def way_out6(self) -> str:
        """The same for IPv6."""
        with self._namespaces.within(None), Netlink() as kernel:
            return "" if way_out6.has_one(kernel) else "guests have no way out by IPv6: this host has no route for it"

    def tunnels(self) -> str:
        """ "" when this host's networks can span hosts, otherwise why they cannot, in words."""
        if not self._abilities.is_in_hosts_network:
            return "it is run by an ordinary user, so its networks end at it"
        if not self._abilities.overlay:
            return self._abilities.missing["overlay"]
        return "" if self.vtep() else "it has no default route, and PILEUS_VTEP says no address"

    def vtep(self) -> str:
        """Where tunnels to this host end: $PILEUS_VTEP, or the uplink's address. "": it can have none."""
        if not self._abilities.overlay or not self._abilities.is_in_hosts_network:
            return ""
        if chosen := os.environ.get("PILEUS_VTEP"):
            return chosen
        with self._namespaces.within(None), Netlink() as kernel:
            if link := kernel.links().get(edge.uplink(kernel)):
                return str(min((each.ip for each in kernel.addresses(link.index) if each.version == 4), default=""))
        return ""
