"""How much passes a port each way: named limits of nftables, which a map gives to devices. Pure.

What is too much is dropped, so senders slow down; after a pause, a second's worth passes at once. A limit's name says
its rate: another rate is another limit, and only the map changes. Without one a port costs a look into the map.
"""

from collections.abc import Iterable

from network.agent.nft import Set
from network.agent.specs import Port

DIRECTIONS = {"sent": "iifname", "received": "oifname"}
BYTES_PER_SECOND = 125_000  # of one Mbit/s


def rule(direction: str) -> str:
    return f"limit name {DIRECTIONS[direction]} map @limited_{direction} drop"


def limits(ports: Iterable[Port]) -> tuple[dict[str, str], dict[str, Set]]:
    """Limits by name, in nft's words, and the maps that give them to devices."""
    words: dict[str, str] = {}
    sets = {}
    limited = [port for port in ports if port.mbps]
    for direction in DIRECTIONS:
        names = {port.device: f"{direction}_{port.device}_{port.mbps}" for port in limited}
        for port in limited:
            assert port.mbps
            words[names[port.device]] = f"rate over {port.mbps * BYTES_PER_SECOND} bytes/second"
        sets[f"limited_{direction}"] = Set("type ifname : limit", frozenset(names.items()), is_map=True)
    return words, sets
