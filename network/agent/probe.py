"""What this host's kernel can do for networks, found out by doing it in a namespace that is thrown away."""

import contextlib
import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from network.agent import messages, networks, nft
from network.agent.namespaces import throwaway
from network.agent.netlink import Netlink
from network.agent.rules import BR_NETFILTER, BRIDGE_TRACKING, REFLEXIVE

TABLE = """
add table {family} probe
add chain {family} probe arriving {{ type filter hook prerouting priority 0 ; }}
add rule {family} probe arriving {rule}
"""
TRACKED = "ct state established accept"
REMEMBERED = """
add set bridge probe flows { typeof ip saddr . meta l4proto ; flags dynamic,timeout ; timeout 1m ; }
add rule bridge probe arriving update @flows { ip daddr . meta l4proto }
"""


@dataclass(frozen=True)
class Abilities:
    """`tracking`: how answers are known in bridges: by "bridge" (its own conntrack), "br_netfilter", or "reflexive"
    rules, which remember what was sent; "": not at all."""

    tracking: str = ""
    overlay: bool = False
    taps: bool = False
    is_in_hosts_network: bool = False  # not an ordinary user, behind a way out of its own
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether guests can have networks here at all."""
        return bool(self.tracking and self.taps)

    def describe(self) -> dict[str, Any]:
        """For the host's capabilities; `missing` says in words what is not there and what to do."""
        return {
            "networks": self.usable,
            "tracking": self.tracking,
            "overlay": self.overlay,
            "taps": self.taps,
            "missing": self.missing,
        }


def probe(is_in_hosts_network: bool) -> Abilities:
    """Try everything once; takes some milliseconds. To be called where namespaces may be made."""
    missing: dict[str, str] = {}
    if problem := nft.available():
        missing["rules"] = problem
    try:
        os.close(os.open(networks.TUN, os.O_RDWR))
    except OSError as error:
        missing["taps"] = f"{networks.TUN} cannot be opened ({error.strerror}): chmod 666, as udev has it elsewhere"
    with throwaway():
        tracking = "" if "rules" in missing else _tracking(missing)
        overlay = _overlay(missing)
    return Abilities(tracking, overlay, "taps" not in missing, is_in_hosts_network, missing)


def _tracking(missing: dict[str, str]) -> str:
    try:
        nft.run(TABLE.format(family="bridge", rule="meta pkttype host drop"))
    except nft.Refused as refusal:
        missing["rules"] = f"the kernel has no nftables for bridges (module nf_tables): {refusal}"
        return ""
    with contextlib.suppress(nft.Refused):
        nft.run(f"add rule bridge probe arriving {TRACKED}")
        return BRIDGE_TRACKING
    with contextlib.suppress(nft.Refused):
        if Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
            nft.run(TABLE.format(family="inet", rule=TRACKED))
            return BR_NETFILTER
    what_to_do = "load the module nf_conntrack_bridge or br_netfilter"
    with contextlib.suppress(nft.Refused):
        nft.run(REMEMBERED)
        missing["tracking"] = (
            f"answers are known by what was sent, not by connections, as the kernel tracks none: {what_to_do}"
        )
        return REFLEXIVE
    missing["tracking"] = f"the kernel tracks no flows of bridges: {what_to_do}"
    return ""


def _overlay(missing: dict[str, str]) -> bool:
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with Netlink() as kernel:
            local = ipaddress.ip_address("127.0.0.1")
            kernel.send(messages.add_vxlan("probe", 1, local=local, port=4789, mtu=1500, in_namespace=here))
    except OSError as error:
        missing["overlay"] = f"networks cannot span hosts: no VXLAN (module vxlan): {error.strerror}"
        return False
    finally:
        os.close(here)
    return True
