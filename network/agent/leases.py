"""What guests were last told by DHCP. Nothing depends on it (answers are functions of the spec): it is for looking why
a guest has no address."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from network.agent.specs import Address

OFFERED, GIVEN, REFUSED = "offered", "given", "refused"  # refused: the guest asked for another address than its own


@dataclass(frozen=True)
class Heard:
    """What a request of a port was answered, about its address of this family."""

    port: str
    family: int
    kind: str
    address: Address
    at: float = field(default_factory=time.monotonic)


class Leases:
    """Of one network, since this process answers its guests."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._heard: dict[tuple[str, int], Heard] = {}

    def note(self, heard: Heard | None) -> None:
        if heard:
            self._heard[heard.port, heard.family] = heard

    def keep(self, ports: Collection[str]) -> None:
        """Forget all ports but these."""
        self._heard = {key: heard for key, heard in self._heard.items() if key[0] in ports}

    def describe(self, port: str, family: int) -> dict[str, object]:
        """{"watched_seconds", "lease": {"kind", "address", "seconds_ago"} or None}"""
        now, heard = time.monotonic(), self._heard.get((port, family))
        lease = heard and {"kind": heard.kind, "address": str(heard.address), "seconds_ago": int(now - heard.at)}
        return {"watched_seconds": int(now - self._since), "lease": lease}
