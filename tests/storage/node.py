"""A host that makes images and backups: it obeys at once, speaks the real agent API, and converts by copying."""

import hashlib
import json
import uuid
from typing import Any, ClassVar

from django.db import transaction
from django.test import Client

from cloud.events.services import SYSTEM
from cloud.hosts import services as hosts
from cloud.hosts.models import Host
from storage.agent.blocks import BLOCK_BYTES, BLOCKS_IN_PART, digest_of, pack

CAPACITY = {"vcpus": 1, "memory_mib": 1024, "disk_gib": 100}
CAPABILITIES = {
    "images": {"import": ["qcow2", "raw"], "export": ["qcow2", "ova"], "capture": True, "backup": True, "drill": True}
}


class ImageNode:
    """`broken`: why nothing can be made, for good if `final`; `fix_by`: who can fix it, if it says so. `found`: what it
    says was inside.

    `failures`: why whichever of them is asked next cannot make something, once each.
    """

    failures: ClassVar[list[str]] = []

    def __init__(self, name: str = "converter") -> None:
        self.online, self.broken, self.final, self.fix_by = True, "", False, ""
        self.written = b"1"  # on its volumes
        self.uefi = b""  # what UEFI keeps for its machines
        self.found: dict[str, Any] = {"format": "raw", "virtual_bytes": 3 << 30, "machine": None}
        self.ledger: dict[str, dict[str, Any]] = {}
        self.specs: dict[str, dict[str, Any]] = {}
        self.client, self.token = Client(), ""
        with transaction.atomic():
            _, secret = hosts.make_join_token(actor=SYSTEM)
        joined = self.post("join", token=secret, name=name, capacity=CAPACITY, capabilities=CAPABILITIES)
        self.token = joined["token"]
        self.host = Host.objects.get(pk=joined["host"]["id"])
        self.heartbeat()

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        told = {"HTTP_AUTHORIZATION": f"Bearer {self.token}"} if self.token else {}
        kind = headers.pop("content_type", "application/octet-stream")
        return self.client.generic(method, f"/agent/v1/{path}", body, content_type=kind, **told, headers=headers)

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self.call("POST", path, json.dumps(body).encode(), content_type="application/json")
        return {"status": answer.status_code, **json.loads(answer.content or b"{}")}

    def heartbeat(self) -> dict[str, Any]:
        keys = ("generation", "sequence", "seen")
        inventory = [
            {"type": "image", "id": ident, **{key: entry[key] for key in keys}} for ident, entry in self.ledger.items()
        ]
        return self.post(
            "heartbeat", boot_id="b", agent_version="1", capacity=CAPACITY, capabilities=CAPABILITIES,
            inventory=inventory,
        )  # fmt: skip

    def look(self) -> None:
        for order in self.post("claim", limit=64)["orders"]:
            ident = order["resource"]["id"]
            if order["verb"] == "ensure_gone":
                self.see(ident, order["generation"], "gone")
                self.ledger.pop(ident)
                continue
            self.specs[ident] = order["spec"]
            if ImageNode.failures:
                self.see(ident, order["generation"], "broken", problem=ImageNode.failures.pop(), final=False)
            elif self.broken:
                self.see(ident, order["generation"], "broken", problem=self.broken, final=self.final, **self._who())
            else:
                self.make(ident, order["generation"])

    def _who(self) -> dict[str, str]:
        return {"fix_by": self.fix_by} if self.fix_by else {}

    def back_up(self, ident: str, generation: int) -> None:
        """A volume whose first block is full of what `written` says."""
        key = bytes.fromhex(self.call("GET", f"backups/{ident}").json()["key"])
        block = self.written * BLOCK_BYTES
        digests, run = [digest_of(block, key), *[""] * (BLOCKS_IN_PART - 1)], str(uuid.uuid4())
        for number in range(self.specs[ident]["size_gib"]):
            body = json.dumps({"run": run, "digests": digests}).encode()
            told = self.call("PUT", f"backups/{ident}/parts/{number}", body, content_type="application/json")
            if told.status_code != 200:  # the volume is not held for it any more
                self.see(ident, generation, "broken", problem=told.json()["detail"], final=False)
                return
            for index in told.json()["missing"]:
                packed = pack(block)
                sha256 = hashlib.sha256(packed).hexdigest()
                path = f"backups/{ident}/files/{number * BLOCKS_IN_PART + index}"
                assert self.call("PUT", path, packed, **{"X-Content-SHA256": sha256}).status_code == 201
        self.see(ident, generation, "present", run=run, consistency="crash")

    def make(self, ident: str, generation: int) -> None:
        source = self.specs[ident]["source"]
        if source["kind"] == "volume":
            self.back_up(ident, generation)
            return
        if source["kind"] == "backup":
            self.see(ident, generation, "present", found=["ext"])
            return
        content = b"from the internet"
        if source["kind"] == "upload":
            content = b"".join(self.call("GET", f"uploads/{ident}").streaming_content)
        if source["kind"] == "files":
            file = source["files"][0]
            content = b"".join(self.call("GET", f"files/{file['sha256']}").streaming_content)
        wanted = self.specs[ident]["result"]["format"]
        role = "export" if source["kind"] == "files" else "disk"
        made = [(role, wanted, wanted.encode() + b" of " + content)]
        if source.get("machine") and self.uefi:
            made.append(("uefi-variables", "raw", self.uefi))
        files = []
        for index, (role, format_, each) in enumerate(made):
            sha256 = hashlib.sha256(each).hexdigest()
            stored = self.call("PUT", f"imports/{ident}/files/{index}", each, **{"X-Content-SHA256": sha256})
            if stored.status_code != 201:
                self.see(ident, generation, "broken", problem=stored.json()["detail"], final=True)
                return
            files.append({"role": role, "index": index, "sha256": sha256, "size": len(each), "format": format_})
        files[0]["virtual_bytes"] = 3 << 30
        self.see(ident, generation, "present", files=files, found=self.found)

    def see(self, ident: str, generation: int, seen: str, **facts: Any) -> None:
        sequence = self.ledger.get(ident, {"sequence": 0})["sequence"] + 1
        self.ledger[ident] = {"generation": generation, "sequence": sequence, "seen": seen}
        told = {"generation": generation, "sequence": sequence, "seen": seen, "facts": facts}
        self.post("report", resource={"type": "image", "id": ident}, **told)
