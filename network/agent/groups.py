"""Security groups, compiled into chains that look packets up in interval sets: their cost does not grow with the rules.

Pure functions. Per group and direction one chain; a rule whose remote is a group becomes a set of that group's members
and a chain of what its members may do. `permits` is the same decision in Python, for flows that are established.
"""

from collections import defaultdict
from collections.abc import Iterable

from network.agent.nft import Chain, Set
from network.agent.specs import ALL, ICMP, Address, Group, Network, Rule

Range = tuple[int, int]
Boxes = list[tuple[Network, Range]]
Parts = tuple[dict[str, Set], dict[str, Chain]]
ANY_PROTOCOL = (0, 255)
ADDRESSES = {4: "ipv4_addr", 6: "ipv6_addr"}


def chain_name(group: str, direction: str) -> str:
    return f"{direction}_{group.replace('-', '')}"


def members_name(group: str, family: int) -> str:
    return f"members{family}_{group.replace('-', '')}"


def compiled(groups: Iterable[Group]) -> Parts:
    """The sets and chains of groups."""
    sets: dict[str, Set] = {}
    chains: dict[str, Chain] = {}
    for group in groups:
        for family, kind in ADDRESSES.items():
            sets[members_name(group.id, family)] = Set(f"type {kind}", group.written[family])
        for direction in ("ingress", "egress"):
            of_rules = _of_rules(group, direction)
            sets |= of_rules[0]
            chains |= of_rules[1]
    return sets, chains


def _of_rules(group: Group, direction: str) -> Parts:
    """What its rules are made of. It is made once, and kept with the group."""
    kept: dict[str, Parts] = group.__dict__.setdefault("compiled", {})
    if direction not in kept:
        name = chain_name(group.id, direction)
        rules = [rule for rule in group.rules if rule.direction == direction]
        sets, lines = _open_to_networks(name, rules, direction)
        chains: dict[str, Chain] = {}
        for family in (4, 6):
            remotes = {rule.remote for rule in rules if rule.family == family and isinstance(rule.remote, str)}
            for remote in sorted(remotes):
                called = f"{name}_{family}_{remote.replace('-', '')}"
                chains[called] = Chain(
                    tuple(_open_to_all([r for r in rules if (r.family, r.remote) == (family, remote)]))
                )
                lines.append(f"{_remote_field(family, direction)} @{members_name(remote, family)} jump {called}")
        kept[direction] = sets, chains | {name: Chain(tuple(lines))}
    return kept[direction]


def permits(
    groups: Iterable[Group], all_groups: dict[str, Group], direction: str, flow: tuple[Address, int, int]
) -> bool:
    """Whether a port of these groups may exchange a flow's first packet with (remote, protocol, port or ICMP type)."""
    remote, protocol, port = flow
    for group in groups:
        for rule in group.rules:
            if rule.direction != direction or rule.family != remote.version:
                continue
            if rule.protocol not in (None, protocol):
                continue
            if rule.range != ALL and not rule.range[0] <= port <= rule.range[1]:
                continue
            if isinstance(rule.remote, str):
                if remote in all_groups[rule.remote].members:
                    return True
            elif remote in rule.remote:
                return True
    return False


def _remote_field(family: int, direction: str) -> str:
    return f"{'ip' if family == 4 else 'ip6'} {'saddr' if direction == 'ingress' else 'daddr'}"


def _open_to_networks(name: str, rules: list[Rule], direction: str) -> tuple[dict[str, Set], list[str]]:
    """Sets of what is open, and the rules that look there. One more rule of a kind is one more element, which the
    kernel takes at once: a chain that changes has to wait until no packet is in it any more."""
    sets: dict[str, Set] = {}
    lines: list[str] = []

    def open_to(kind: str, type: str, where: str, elements: Iterable[tuple[str, ...]]) -> None:
        sets[kind] = Set(f"type {type} ; flags interval", frozenset(elements))
        lines.append(f"{where} @{kind} accept")

    for family, address in ADDRESSES.items():
        wholly: dict[Network, list[Range]] = defaultdict(list)
        partly: dict[int, dict[Network, list[Range]]] = defaultdict(lambda: defaultdict(list))
        for rule in rules:
            if rule.family != family or isinstance(rule.remote, str):
                continue
            if rule.range == ALL:
                wholly[rule.remote].append(_protocols(rule))
            elif rule.protocol is not None:
                partly[rule.protocol][rule.remote].append(rule.range)
        remote, of = _remote_field(family, direction), f"{name}_{family}"
        if wholly:
            all_of_them = [(_written(network), _interval(each)) for network, each in disjoint(wholly)]
            open_to(f"{of}_all", f"{address} . inet_proto", f"{remote} . meta l4proto", all_of_them)
        if ported := [
            (_written(network), str(protocol), _interval(each))
            for protocol in partly.keys() - set(ICMP)
            for network, each in disjoint(partly[protocol])
        ]:
            type = f"{address} . inet_proto . inet_service"
            open_to(f"{of}_ports", type, f"{remote} . meta l4proto . th dport", ported)
        for protocol in sorted(partly.keys() & set(ICMP)):  # type and code are where others have the source port
            kinds = [(_written(network), _interval(each)) for network, each in disjoint(partly[protocol])]
            where = f"meta l4proto {protocol} {remote} . th sport"
            open_to(f"{of}_icmp_{protocol}", f"{address} . inet_service", where, kinds)
    return sets, lines


def _written(network: Network) -> str:
    """As the kernel tells it."""
    return str(network if network.num_addresses > 1 else network.network_address)


def _open_to_all(rules: list[Rule]) -> Iterable[str]:
    """Of rules with one remote: what has come this far has that remote."""
    wholly = merged(_protocols(rule) for rule in rules if rule.range == ALL)
    if wholly == [ANY_PROTOCOL]:
        return ["accept"]
    lines = [f"meta l4proto {{ {', '.join(map(_interval, wholly))} }} accept"] if wholly else []
    for protocol in sorted({rule.protocol for rule in rules if rule.protocol is not None and rule.range != ALL}):
        ranges = merged(rule.range for rule in rules if rule.protocol == protocol and rule.range != ALL)
        part = "sport" if protocol in ICMP else "dport"
        lines.append(f"meta l4proto {protocol} th {part} {{ {', '.join(map(_interval, ranges))} }} accept")
    return lines


def _protocols(rule: Rule) -> Range:
    return ANY_PROTOCOL if rule.protocol is None else (rule.protocol, rule.protocol)


def _interval(value: Range) -> str:
    return str(value[0]) if value[0] == value[1] else f"{value[0]}-{value[1]}"


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same numbers in ranges that do not overlap, in order. Neighbours stay two: one more changes no other."""
    found: list[Range] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def without(ranges: list[Range], others: list[Range]) -> list[Range]:
    """What is in `ranges` and not in `others`; both merged."""
    found = []
    for low, high in ranges:
        start = low
        for other_low, other_high in others:
            if other_high < start or other_low > high:
                continue
            if other_low > start:
                found.append((start, other_low - 1))
            start = other_high + 1
        if start <= high:
            found.append((start, high))
    return found


def disjoint(ranges: dict[Network, list[Range]]) -> Boxes:
    """The same (network, number) pairs as boxes that do not overlap: the kernel's interval sets refuse others.

    Networks are nested or apart, so a network keeps only what no network around it has.
    """
    boxes: Boxes = []
    lengths = {network.prefixlen for network in ranges}
    for network in sorted(ranges, key=lambda n: (n.prefixlen, n)):
        around = [network.supernet(new_prefix=length) for length in lengths if length < network.prefixlen]
        outer = merged(each for other in around for each in ranges.get(other, ()))
        boxes += [(network, each) for each in without(merged(ranges[network]), outer)]
    return boxes
