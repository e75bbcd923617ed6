"""A host that obeys every order by saying so, and starts nothing: `obeying_host.py URL JOIN_TOKEN`.

It speaks the agent API as hosts do: it looks for orders when its bell rings, and tells in one call what it owes. So
what is measured beside it is the control plane alone.
"""

import os
import sys
import time
from typing import Any

import httpx
import redis

CAPACITY = {"vcpus": 1_000_000, "memory_mib": 2**30, "disk_gib": 2**30}
CAPABILITIES = {"hypervisors": {"qemu": {"verbs": ["pause"], "architectures": {"x86_64": {"accelerator": "tcg"}}}}}
HEARTBEAT_SECONDS, MAX_CLAIMED, MAX_REPORTS = 5, 64, 32


class Host:
    def __init__(self, url: str, join_token: str) -> None:
        self.client = httpx.Client(base_url=f"{url}/agent/v1", trust_env=False, timeout=30)
        about = {"capacity": CAPACITY, "capabilities": CAPABILITIES}
        joined = self.ask("/join", token=join_token, name="big", **about).json()
        self.client.headers["Authorization"] = f"Bearer {joined['token']}"
        self.bell = f"{joined['key_prefix']}{joined['queue']}"
        # Not by its own login, which may not choose one of Redis's databases, of which each control plane has its own.
        self.bells = redis.Redis.from_url(os.environ["REDIS_URL"])

    def ask(self, path: str, **body: Any) -> httpx.Response:
        answer = self.client.post(path, json=body)
        if answer.status_code not in (404, 409, 410):  # it is not wanted any more
            answer.raise_for_status()
        return answer

    def run(self) -> None:
        due = 0.0
        while True:
            if time.monotonic() > due:
                about = {"capacity": CAPACITY, "capabilities": CAPABILITIES}
                self.ask("/heartbeat", boot_id="1", agent_version="0", inventory=[], **about)
                due = time.monotonic() + HEARTBEAT_SECONDS
            orders = self.ask("/claim", limit=MAX_CLAIMED, incarnation="1").json()["orders"]
            self.report([
                {
                    "resource": order["resource"],
                    "generation": order["generation"],
                    "sequence": time.time_ns(),
                    "seen": order["verb"].removeprefix("ensure_"),
                    "facts": {},
                }
                for order in orders
            ])  # fmt: skip
            if not orders:
                self.bells.brpop([self.bell], timeout=1)

    def report(self, owed: list[dict[str, Any]]) -> None:
        for begin in range(0, len(owed), MAX_REPORTS):
            some = owed[begin : begin + MAX_REPORTS]
            if len(some) == 1 or self.ask("/reports", reports=some).status_code == 404:
                for each in some:
                    self.ask("/report", **each)


if __name__ == "__main__":
    Host(*sys.argv[1:]).run()
