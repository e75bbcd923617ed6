"""The public API, as `up` uses it: with a token, like anybody else."""

import time
from typing import Any

import httpx

from cloud.embedded.errors import Trouble


class Api:
    """One user's way to the API. Raises Trouble with the answer's own words for anything but success."""

    def __init__(self, url: str, token: str) -> None:
        self.client = httpx.Client(
            base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False
        )

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer = self.client.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise Trouble(f"{method} {path}: no answer ({error})") from error
        if not answer.is_success:
            raise Trouble(f"{method} {path}: {_problem(answer)}")
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def accepts_token(self) -> bool:
        return self.client.get("/me").status_code != httpx.codes.UNAUTHORIZED


def _problem(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
    except ValueError:
        return f"{answer.status_code} {answer.text[:200]}"
    faults = "; ".join(f"{fault.get('pointer')} {fault.get('message')}" for fault in problem.get("errors") or [])
    return f"{answer.status_code} {problem.get('code')}: {problem.get('detail')} {faults}".rstrip()


def guest_is_up(lines: list[str], name: str) -> float | None:
    """The seconds that the guest says it needed, from its own READY line; None when there is none yet."""
    for line in lines:
        words = line.strip().split()
        if len(words) == 3 and words[:2] == ["READY", name]:
            return float(words[2])
    return None


def wait_for_guest(api: Api, instance: str, name: str, *, seconds: float, tell: Any) -> float:
    """Waits for the READY line in the console log. Raises Trouble when the machine fails, or says nothing for long."""
    until = time.monotonic() + seconds
    while True:
        log = api.call("GET", f"/projects/demo/instances/{instance}/console-log", params={"lines": 400})
        if (booted := guest_is_up(log["lines"], name)) is not None:
            return booted
        row = api.call("GET", f"/projects/demo/instances/{instance}")
        reason = f": {row['status_reason']}" if row.get("status_reason") else ""
        tell(f"{row['status']}{reason}")
        if row["status"] in ("error", "stopped"):
            raise Trouble(f"the VM “{name}” is in status {row['status']}{reason}")
        if time.monotonic() > until:
            last = log["lines"][-3:]
            raise Trouble(
                f"the VM “{name}” ({row['status']}) did not say READY within {seconds:.0f} s; the last it said: {last}"
            )
        time.sleep(0.3)
