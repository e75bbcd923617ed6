"""Errors that a caller may read: each knows its status, its code, and who can put it right."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class Fault:
    """One fault of a request's body: where (RFC 6901 pointer), and what."""

    pointer: str
    message: str
    code: str = "invalid"


@dataclass
class Problem(Exception):
    """Base of every error with an answer of its own (RFC 9457). Subclasses stand beside what raises them."""

    detail: str = ""
    errors: list[Fault] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    status: ClassVar[int] = 400
    code: ClassVar[str] = "invalid"
    title: ClassVar[str] = "The request is not valid"
    fix_by: ClassVar[Literal["you", "project_admin", "operator"]] = "you"
    retryable: ClassVar[bool] = False

    def __str__(self) -> str:
        return self.detail or self.title
