"""A host that obeys every order by saying so, and starts nothing: `obeying_host.py URL JOIN_TOKEN`.

It speaks the agent API, so what is measured beside it is the control plane alone.
"""

import sys
import time
from typing import Any

import httpx

CAPACITY = {"vcpus": 1_000_000, "memory_mib": 2**30, "disk_gib": 2**30}
CAPABILITIES = {"hypervisors": {"qemu": {"verbs": ["pause"], "architectures": {"x86_64": {"accelerator": "tcg"}}}}}
HEARTBEAT_SECONDS, LOOK_SECONDS, MAX_CLAIMED = 5, 0.01, 64


def main(url: str, join_token: str) -> None:
    with httpx.Client(base_url=f"{url}/agent/v1", trust_env=False, timeout=30) as client:

        def ask(path: str, **body: Any) -> Any:
            answer = client.post(path, json=body)
            if answer.status_code in (404, 409, 410):  # it is not wanted any more
                return {}
            answer.raise_for_status()
            return answer.json() if answer.content else {}

        about = {"capacity": CAPACITY, "capabilities": CAPABILITIES}
        client.headers["Authorization"] = f"Bearer {ask('/join', token=join_token, name='big', **about)['token']}"
        due = 0.0
        while True:
            if time.monotonic() > due:
                ask("/heartbeat", boot_id="1", agent_version="0", inventory=[], **about)
                due = time.monotonic() + HEARTBEAT_SECONDS
            orders = ask("/claim", limit=MAX_CLAIMED, incarnation="1").get("orders", [])
            for order in orders:
                ask(
                    "/report",
                    resource=order["resource"],
                    generation=order["generation"],
                    sequence=time.time_ns(),
                    seen=order["verb"].removeprefix("ensure_"),
                    facts={},
                )
            if not orders:
                time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
