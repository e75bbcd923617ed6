"""Whether what a guest sends to an address leaves it, and is answered: by the flows that the kernel tracks.

The kernel remembers a flow once the rules of this host have let its first packet pass: for half a minute where nothing
answers it, TCP for two.
"""

import ipaddress
from typing import Any

from network.agent import flows
from network.agent.netlink import NETFILTER, Netlink
from network.agent.questions import ECHO
from network.agent.specs import ICMP, PROTOCOLS, Port, as_within

NOTHING, UNANSWERED, ANSWERED = "nothing", "unanswered", "answered"


def tried(port: Port, towards: dict[str, Any]) -> str:
    """What came of what a port's guest has sent to an address lately: {"address", "protocol", "number"?} as in a probe.

    To be called inside the network's namespace. Raises ValueError.
    """
    target = ipaddress.ip_address(towards["address"])
    name = "icmpv6" if towards["protocol"] == "icmp" and target.version == 6 else towards["protocol"]
    if name not in PROTOCOLS:
        raise ValueError(f"nobody can ask by {name!r}")
    protocol = PROTOCOLS[name]
    number = ECHO[target.version] << 8 if protocol in ICMP else as_within(towards["number"], 1, 65535, "port")
    with Netlink(NETFILTER) as kernel:
        found = [
            flow
            for flow in flows.tracked(kernel, about=target)
            if flow.source in port.addresses
            and (flow.destination, flow.protocol, flow.destination_port) == (target, protocol, number)
        ]
    if not found:
        return NOTHING
    return ANSWERED if any(flow.is_answered for flow in found) else UNANSWERED
