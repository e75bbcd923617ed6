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

TRACKED_BRIDGE = """
add table bridge probe
add chain bridge probe arriving {{ type filter hook prerouting priority 0 ; }}
add rule bridge probe arriving {}
"""


@dataclass(frozen=True)
class Abilities:
    """`tracking`: who tracks the flows of bridges: "bridge" (its own conntrack) or "br_netfilter"; "": nobody."""

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
        nft.run(TRACKED_BRIDGE.format("meta pkttype host drop"))
    except nft.Refused as refusal:
        missing["rules"] = f"the kernel has no nftables for bridges (module nf_tables): {refusal}"
        return ""
    with contextlib.suppress(nft.Refused):
        nft.run("add rule bridge probe arriving ct state established accept")
        return "bridge"
    if Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
        return "br_netfilter"
    missing["tracking"] = "the kernel tracks no flows of bridges: load the module nf_conntrack_bridge or br_netfilter"
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
