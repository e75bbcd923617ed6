"""The agent's side of the agent API: HTTP with this host's own token.

Every failure to get a sensible answer is `Unreachable`: it says nothing about any resource, and whoever asked tries
again later. The transport can be given, so that tests talk to a control plane in the same process.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from agent.errors import OPERATOR, YOU, DeclaredLost, Refused, Unreachable
from agent.membership import Membership

TIME_OUT = httpx.Timeout(15.0, connect=5.0)
TIME_OUT_OF_UPLOADS = httpx.Timeout(60.0, connect=5.0, read=300.0)  # at the end the whole file is made durable
MAX_REPORTS = 32  # in one call; the control plane takes 64
TAKEN = "taken"
OUTDATED = "outdated"
Outcome = str | Refused | Unreachable  # of a report


class ControlPlane:
    """The control plane at `url`, for the host that holds `token`. Every method may raise Unreachable.

    Of that kind is DeclaredLost.
    """

    def __init__(self, url: str, token: str = "", transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=TIME_OUT,
            transport=transport,
            trust_env=False,
            # Reading the system's certificates takes long: only where they are used.
            verify=ssl.create_default_context() if url.startswith("https:") else False,
        )

    def close(self) -> None:
        self._client.close()

    def join(self, *, token: str, name: str, capacity: dict[str, Any], capabilities: dict[str, Any]) -> Membership:
        """Become a host. Raises Refused with the control plane's own words, or Unreachable."""
        body = {"token": token, "name": name, "capacity": capacity, "capabilities": capabilities}
        answer = self._send("POST", "/agent/v1/join", json=body)
        if answer.status_code != 201:
            raise Refused(_words(answer))
        content = answer.json()
        return Membership(
            url=str(self._client.base_url).rstrip("/"),
            host_id=content["host"]["id"],
            name=content["host"]["name"],
            token=content["token"],
            redis_url=content["redis_url"],
            key_prefix=content["key_prefix"],
            queue=content["queue"],
            heartbeat_seconds=content.get("heartbeat_seconds", 10),
        )

    def heartbeat(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._ask("POST", "/agent/v1/heartbeat", body)

    def claim(self, limit: int, incarnation: str) -> list[dict[str, Any]]:
        """Orders to obey now. `incarnation` names this run of the worker: a new run gets what an earlier one had."""
        return list(self._ask("POST", "/agent/v1/claim", {"limit": limit, "incarnation": incarnation})["orders"])

    def renew(self, order: dict[str, Any]) -> bool:
        """Whether the order is still this host's to obey."""
        path = f"/agent/v1/orders/{order['id']}/renew"
        answer = self._send("POST", path, json={"generation": order["generation"]})
        if answer.status_code in (404, 409):
            return False
        _expect_success(answer)
        return True

    def report(self, report: dict[str, Any]) -> str:
        """TAKEN, or OUTDATED when the control plane does not want this report any more. Raises Refused, with its words,
        when it cannot read it."""
        answer = self._send("POST", "/agent/v1/report", json=report)
        return _verdict(answer.status_code, _words(answer))

    def report_all(self, reports: list[dict[str, Any]]) -> Iterator[Outcome]:
        """What becomes of each, in this order: TAKEN, OUTDATED, Refused, or Unreachable where that is not known.

        They go together, or one by one to an older control plane, which takes no more. Raises Unreachable when it
        doesn't answer at all.
        """
        for begin in range(0, len(reports), MAX_REPORTS):
            some = reports[begin : begin + MAX_REPORTS]
            answer = self._send("POST", "/agent/v1/reports", json={"reports": some}) if len(some) > 1 else None
            if answer is None or answer.status_code in (404, 405, 413):
                for report in some:
                    try:
                        yield self.report(report)
                    except Refused as refusal:
                        yield refusal
            else:
                _expect_success(answer)
                yield from _outcomes(_content(answer), len(some))

    def tell(self, method: str, path: str, *, ignored: tuple[int, ...] = (), **content: Any) -> None:
        """Send what has no answer. `ignored`: statuses that mean it is not wanted, and need not be sent again."""
        answer = self._send(method, path, **content)
        if answer.status_code not in ignored:
            _expect_success(answer)

    @contextmanager
    def download(self, path: str, what: str, *, offset: int = 0) -> Iterator[Iterator[bytes]]:
        """The bytes of a file from an offset on, in pieces. Raises Refused when there is none; `what` it is, for these
        words."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            with self._client.stream("GET", path, headers=headers) as answer:
                if answer.status_code == 404:
                    raise Refused(f"the control plane has no {what}")
                _expect_success(answer)
                if offset and answer.status_code != 206:
                    raise Unreachable(f"{path}: the rest of the file was asked for, and all of it came")
                yield answer.iter_bytes(1 << 20)
        except httpx.HTTPError as error:
            raise Unreachable(_reason(error)) from error

    def upload(self, path: str, pieces: Iterator[bytes], size: int, sha256: str) -> None:
        """Send a file. Raises Refused, with the control plane's words, when it does not take it."""
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream", "X-Content-SHA256": sha256}
        answer = self._send("PUT", path, content=pieces, headers=headers, timeout=TIME_OUT_OF_UPLOADS)
        _expect_no_refusal(answer)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON that answers this one. Raises Refused, with the control plane's words, when it does not want to."""
        answer = self._send(method, path, json=body)
        _expect_no_refusal(answer)
        return _content(answer)

    def _ask(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._send(method, path, json=body)
        _expect_success(answer)
        return _content(answer)

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **content)
        except httpx.HTTPError as error:
            raise Unreachable(_reason(error)) from error
        if answer.status_code == 401 and _problem(answer).get("declared_lost") is True:
            raise DeclaredLost(_words(answer))
        return answer


def _verdict(status: int, words: str) -> str:
    """What a status says of a report. Raises Refused, Unreachable."""
    if status in (400, 422):
        raise Refused(words)
    if status in (404, 409, 410):
        return OUTDATED
    if not 200 <= status < 300:
        raise Unreachable(f"/agent/v1/report: {status} {words}")
    return TAKEN


def _outcomes(content: dict[str, Any], number: int) -> list[Outcome]:
    """What the answer to so many reports says of each. Raises Unreachable when it is no such answer."""
    try:
        told = [(int(one["status"]), _words_of(dict(one["body"]))) for one in content["answers"]]
    except (KeyError, TypeError, ValueError) as error:
        raise Unreachable("/agent/v1/reports: the answer tells nothing of the reports") from error
    if len(told) != number:
        raise Unreachable(f"/agent/v1/reports: {len(told)} answers to {number} reports")
    return [_outcome(status, words) for status, words in told]


def _outcome(status: int, words: str) -> Outcome:
    try:
        return _verdict(status, words)
    except (Refused, Unreachable) as other:
        return other


def _expect_success(answer: httpx.Response) -> None:
    if not answer.is_success:
        raise Unreachable(f"{answer.request.url.path}: {answer.status_code} {_words(answer)}")


def _expect_no_refusal(answer: httpx.Response) -> None:
    if answer.status_code in (400, 404, 409, 410, 413, 422):
        raise Refused(_words(answer), fix_by=_fixer(answer))
    _expect_success(answer)


def _content(answer: httpx.Response) -> dict[str, Any]:
    try:
        return dict(answer.json())
    except ValueError as error:
        raise Unreachable(f"{answer.request.url.path}: the answer is not JSON") from error


def _words(answer: httpx.Response) -> str:
    """What a problem+json says for people."""
    return _words_of(_problem(answer)) or str(answer.status_code)


def _words_of(problem: dict[str, Any]) -> str:
    return str(problem.get("detail") or problem.get("title") or "")


def _fixer(answer: httpx.Response) -> str:
    """Who can do something about it, as a problem+json says."""
    return YOU if _problem(answer).get("fix_by") == YOU else OPERATOR


def _problem(answer: httpx.Response) -> dict[str, Any]:
    try:
        answer.read()
        content = answer.json()
    except (ValueError, httpx.StreamError):
        return {}
    return content if isinstance(content, dict) else {}


def _reason(error: httpx.HTTPError) -> str:
    return f"{type(error).__name__}: {error}"
