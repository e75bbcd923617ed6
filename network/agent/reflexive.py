"""Answers without conntrack, where the kernel tracks no flows of bridges: rules remember what was let through.

A packet that may pass is kept in the set `opened`, and its answer in `answers`; what is in either is established, as
with conntrack. It is coarser: a flow ends when it has been silent for a while, whatever TCP says, fragments behind the
first are dropped, and errors of ICMP pass whichever flow they are about.
"""

from collections.abc import Callable, Collection, Mapping
from ipaddress import ip_address

from network.agent.nft import MAX_ELEMENTS_AT_ONCE, Chain, Elements, Set
from network.agent.specs import PROTOCOLS, Address

Opened = tuple[Address, Address, int, int, int]  # source, destination, protocol, the source's port, the destination's
MARK = "meta mark set meta mark | 0x1"
MAX_FLOWS = 65536  # of a network on a host
SILENCE, PING_SILENCE = "10m", "30s"
WITH_PORTS = "meta l4proto { tcp, udp }"
WITHOUT_PORTS = "meta l4proto != { tcp, udp, icmp, icmpv6 }"


def sets() -> dict[str, Set]:
    """What was let through, by family."""
    found = {}
    for version, ip in (("4", "ipv4_addr"), ("6", "ipv6_addr")):
        kinds = {
            "opened": f"{ip} . inet_service . {ip} . inet_service . inet_proto",
            "answers": f"{ip} . inet_service . {ip} . inet_service . inet_proto",
            "others": f"{ip} . {ip} . inet_proto",
        }
        for name, kind in kinds.items():
            found[name + version] = _set(f"type {kind}", SILENCE)
    found["pings4"] = _set("typeof ip saddr . ip daddr . icmp id", PING_SILENCE)
    found["pings6"] = _set("typeof ip6 saddr . ip6 daddr . icmpv6 id", PING_SILENCE)
    return found


def _set(kind: str, silence: str) -> Set:
    return Set(f"{kind} ; flags dynamic,timeout ; timeout {silence} ; size {MAX_FLOWS}", is_kernels=True)


def chains(hook: Callable[[str, int], str]) -> dict[str, Chain]:
    """Chains that mark what is established, and those that remember what has passed everything else."""
    mark, remember = Chain(tuple(_marks())), Chain(tuple(_remembers()))
    return {
        "established": mark,
        "passed": remember,
        "tracked_arriving": Chain(("jump established",), hook("prerouting", -150)),
        "tracked_own": Chain(("jump established",), hook("output", -150)),
        "passed_on": Chain(("jump passed",), hook("postrouting", 100)),
        "passed_in": Chain(("jump passed",), hook("input", 100)),
    }


def _families() -> Collection[tuple[str, str, str]]:
    return (("4", "ip", "icmp"), ("6", "ip6", "icmpv6"))


def _marks() -> list[str]:
    rules = []
    for version, ip, icmp in _families():
        ahead, plain = _flow(ip), f"{ip} saddr . {ip} daddr . meta l4proto"
        errors = "destination-unreachable, time-exceeded, parameter-problem" + (", packet-too-big" * (version == "6"))
        rules += [
            f"{WITH_PORTS} {ahead} @opened{version} {MARK}",
            f"{WITH_PORTS} {ahead} @answers{version} {MARK}",
            f"{icmp} type echo-reply {ip} saddr . {ip} daddr . {icmp} id @pings{version} {MARK}",
            f"{icmp} type {{ {errors} }} {MARK}",
            f"{WITHOUT_PORTS} {plain} @others{version} {MARK}",
        ]
    return rules


def _remembers() -> list[str]:
    rules = []
    for version, ip, icmp in _families():
        ahead, back = _flow(ip), _flow(ip, back=True)
        opened, answers = f"@opened{version}", f"@answers{version}"
        rules += [
            f"{WITH_PORTS} {ahead} {answers} update {answers} {{ {ahead} }} update {opened} {{ {back} }} accept",
            f"{WITH_PORTS} update {opened} {{ {ahead} }} update {answers} {{ {back} }}",
            f"{icmp} type echo-request update @pings{version} {{ {ip} daddr . {ip} saddr . {icmp} id }}",
            f"{WITHOUT_PORTS} update @others{version} {{ {ip} daddr . {ip} saddr . meta l4proto }}",
        ]
    return rules


def _flow(ip: str, back: bool = False) -> str:
    """A packet's flow, or that of its answer."""
    one, other = ("daddr", "dport"), ("saddr", "sport")
    first, second = (one, other) if back else (other, one)
    return f"{ip} {first[0]} . th {first[1]} . {ip} {second[0]} . th {second[1]} . meta l4proto"


def ending(sets: Mapping[str, Elements], may_be: Callable[[Opened], bool]) -> list[str]:
    """Commands that forget flows which may no longer begin. `sets`: as the kernel has them."""
    commands = []
    for version in "46":
        gone = [each for each in sets.get(f"opened{version}", ()) if not may_be(_opened(each))]
        for name, keys in (("opened", gone), ("answers", [(*each[2:4], *each[:2], each[4]) for each in gone])):
            there = sorted(set(keys) & sets.get(name + version, frozenset()))
            for at in range(0, len(there), MAX_ELEMENTS_AT_ONCE):
                elements = ", ".join(" . ".join(each) for each in there[at : at + MAX_ELEMENTS_AT_ONCE])
                commands.append(f"delete element bridge pileus {name}{version} {{ {elements} }}")
        # Of these nothing is known but that they passed: the next packet tells.
        commands += [f"flush set bridge pileus {name}{version}" for name in ("pings", "others")]
    return commands


def _opened(element: tuple[str, ...]) -> Opened:
    source, source_port, destination, destination_port, protocol = element
    number = PROTOCOLS.get(protocol) or int(protocol)
    return ip_address(source), ip_address(destination), number, int(source_port), int(destination_port)
