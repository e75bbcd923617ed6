"""What can go wrong, in words: RFC 9457 problems. A domain error subclasses `Problem` beside what raises it.

Imports nothing of the house, so that everything may import it. `api/translate.py` turns other exceptions into these.

A named constraint of the database is an invariant: `explain_constraint` gives it words that a user may read. Whoever
owns the model registers them; a unique constraint over a `name` has fitting words without that.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

FixBy = Literal["you", "project_admin", "operator"]

# The documented catalogue (docs/api.md explains each): a test fails on a problem whose code is not in it.
CATALOGUE: dict[str, frozenset[int]] = {
    "invalid": frozenset({400}),
    "unauthenticated": frozenset({401}),
    "forbidden": frozenset({403}),
    "over_quota": frozenset({403}),
    "not_found": frozenset({404}),
    "method_not_allowed": frozenset({405}),
    "busy": frozenset({409}),
    "conflict": frozenset({409}),
    "checksum_mismatch": frozenset({460}),
    "idempotency_mismatch": frozenset({409}),
    "no_capacity": frozenset({409}),
    "not_cancelable": frozenset({409}),
    "operation_finished": frozenset({409}),
    "stale": frozenset({412}),
    "too_large": frozenset({413}),
    "unsupported_media_type": frozenset({415}),
    "no_such_range": frozenset({416}),
    "rate_limited": frozenset({429}),
    "internal": frozenset({500}),
    "unavailable": frozenset({503}),
    "host_unreachable": frozenset({503}),
}


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a request: a JSON pointer into its body (or `?parameter`), and words."""

    pointer: str
    message: str
    code: str = "invalid"


class Problem(Exception):
    """An answer that refuses. The detail is for a person; `extra` adds members to the body, e.g. `operation`."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "invalid"
    title: ClassVar[str] = "The request is not valid"
    fix_by: ClassVar[FixBy] = "you"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Iterable[Fault] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ):
        super().__init__(detail or self.title)
        self.detail = detail or f"{self.title}."
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def body(self, request_id: str = "") -> dict[str, Any]:
        """The members of the problem document."""
        return {
            "type": f"urn:pileus:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "errors": [asdict(fault) for fault in self.errors],
            "retryable": self.retryable,
            "fix_by": self.fix_by,
            "request_id": request_id,
            **self.extra,
        }


class Invalid(Problem):
    """Something in the request is wrong; `errors` names all of it."""


class Unauthenticated(Problem):
    status: ClassVar[int] = 401
    code: ClassVar[str] = "unauthenticated"
    title: ClassVar[str] = "Sign in, or send a valid token"

    def __init__(self, detail: str = "", *, headers: Mapping[str, str] | None = None, **rest: Any):
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="pileus"', **(headers or {})}, **rest)


class Forbidden(Problem):
    status: ClassVar[int] = 403
    code: ClassVar[str] = "forbidden"
    title: ClassVar[str] = "You may not do this"
    fix_by: ClassVar[FixBy] = "project_admin"


class AdminsOnly(Forbidden):
    """For admins of the cloud."""

    fix_by: ClassVar[FixBy] = "operator"


class NotFound(Problem):
    """Absent, or not to be seen by this caller: the answer is the same."""

    status: ClassVar[int] = 404
    code: ClassVar[str] = "not_found"
    title: ClassVar[str] = "Not found"


class MethodNotAllowed(Problem):
    status: ClassVar[int] = 405
    code: ClassVar[str] = "method_not_allowed"
    title: ClassVar[str] = "This method is not supported here"


class Conflict(Problem):
    """As things are now, this cannot be done."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "conflict"
    title: ClassVar[str] = "This is in conflict with what is there"


class IdempotencyMismatch(Problem):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "idempotency_mismatch"
    title: ClassVar[str] = "This Idempotency-Key was used for another request"


class Stale(Problem):
    status: ClassVar[int] = 412
    code: ClassVar[str] = "stale"
    title: ClassVar[str] = "The object has changed since you read it"


class TooLarge(Problem):
    status: ClassVar[int] = 413
    code: ClassVar[str] = "too_large"
    title: ClassVar[str] = "The request is too large"


class UnsupportedMediaType(Problem):
    status: ClassVar[int] = 415
    code: ClassVar[str] = "unsupported_media_type"
    title: ClassVar[str] = "Send the body as application/json"


class RateLimited(Problem):
    status: ClassVar[int] = 429
    code: ClassVar[str] = "rate_limited"
    title: ClassVar[str] = "Too many requests"
    retryable: ClassVar[bool] = True


class Internal(Problem):
    """A fault of ours: logged with the request's id."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "The cloud has made a mistake"
    fix_by: ClassVar[FixBy] = "operator"


class Unavailable(Problem):
    """Something that is needed does not answer at the moment."""

    status: ClassVar[int] = 503
    code: ClassVar[str] = "unavailable"
    title: ClassVar[str] = "The cloud cannot answer at the moment"
    fix_by: ClassVar[FixBy] = "operator"
    retryable: ClassVar[bool] = True

    def __init__(self, detail: str = "", *, headers: Mapping[str, str] | None = None, **rest: Any):
        super().__init__(detail, headers={"Retry-After": "2", **(headers or {})}, **rest)


_of_constraints: dict[str, tuple[type[Problem], str, str]] = {}


def explain_constraint(name: str, message: str, *, pointer: str = "", problem: type[Problem] = Conflict) -> None:
    """Words for a breach of the named database constraint, and the part of a body that it concerns."""
    _of_constraints[name] = (problem, message, pointer)


def of_constraint(name: str | None) -> Problem | None:
    """The problem that a breach of this constraint is, if somebody has explained it."""
    if name not in _of_constraints:
        return None
    problem, message, pointer = _of_constraints[name]
    return problem(message, errors=[Fault(pointer, message, problem.code)])
