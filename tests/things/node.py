"""A host of things: it has a ledger of its own and speaks the real agent API."""

from typing import Any

from django.db import transaction
from django.test import Client

from cloud.events.services import SYSTEM
from cloud.hosts import services as hosts
from cloud.hosts.models import Host
from tests.fakes import django_request

MADE_TRUE = {"ensure_ready": "ready", "ensure_gone": "gone"}
CAPACITY = {"vcpus": 1, "memory_mib": 1024, "disk_gib": 100}


class ThingNode:
    """Obeys orders at once, unless it is told not to: `online`, `broken` (why nothing can be made)."""

    def __init__(self, name: str = "things") -> None:
        self.online, self.broken = True, ""
        self.ledger: dict[str, dict[str, Any]] = {}  # id → generation, sequence, seen
        self.specs: dict[str, dict[str, Any]] = {}
        self.problems: list[dict[str, str]] = []
        self._request, self._token = django_request(Client()), ""
        with transaction.atomic():
            _, secret = hosts.make_join_token(actor=SYSTEM)
        joined = self.post("join", token=secret, name=name, capacity=CAPACITY, capabilities={"things": True})
        self._token = joined["token"]
        self.host = Host.objects.get(pk=joined["host"]["id"])
        self.heartbeat()

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """One call of the agent API; its answer, with its `status`."""
        status, answer = self._request("POST", f"/agent/v1/{path}", body, self._token)
        return {"status": status, **answer}

    def heartbeat(self) -> dict[str, Any]:
        keys = ("generation", "sequence", "seen")
        inventory = [
            {"type": "thing", "id": ident, **{key: entry[key] for key in keys}} for ident, entry in self.ledger.items()
        ]
        return self.post(
            "heartbeat", boot_id="b", agent_version="1", capacity=CAPACITY, capabilities={"things": True},
            inventory=inventory, problems=self.problems,
        )  # fmt: skip

    def look(self) -> int:
        """Claim, obey, report. How many orders there were."""
        orders = self.post("claim", limit=64)["orders"]
        for order in orders:
            ident = order["resource"]["id"]
            self.specs[ident] = order["spec"]
            ahead = self.ledger.get(ident, {"generation": 0})["generation"]
            if order["generation"] < ahead:
                self.report(ident, refused={"ledger_generation": ahead})
                continue
            seen = MADE_TRUE[order["verb"]]
            if self.broken and seen == "ready":
                self.see(ident, "broken", generation=order["generation"], problem=self.broken)
            else:
                self.see(ident, seen, generation=order["generation"])
        return len(orders)

    def see(self, ident: str, seen: str, *, generation: int | None = None, **facts: Any) -> dict[str, Any]:
        """Write into the ledger what one is, and report it."""
        entry = self.ledger.get(ident, {"generation": 0, "sequence": 0})
        generation = entry["generation"] if generation is None else generation
        self.ledger[ident] = {"generation": generation, "sequence": entry["sequence"] + 1, "seen": seen}
        return self.report(ident, **facts)

    def report(self, ident: str, **facts: Any) -> dict[str, Any]:
        return self.post("report", resource={"type": "thing", "id": ident}, **self.ledger[ident], facts=facts)
