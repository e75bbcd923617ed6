"""The time that a series is about: back from now by one of a few spans, or from one moment to another.

`?span=1d`, or `?from=2026-11-30T12:00:00Z&to=2026-11-30T13:00:00Z`. Without `to` it goes on until now.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.http import QueryDict
from django.utils import timezone
from rest_framework import serializers

from cloud.api.pagination import read_parameters
from cloud.problems import Fault, Invalid

DEFAULT = "1h"
MAX_POINTS = 3000


@dataclass(frozen=True)
class Span:
    """How far back from `until` a series goes, and how far apart its points are, in seconds. None: until now."""

    seconds: int
    step: int
    until: datetime | None = None

    def start(self, now: float) -> float:
        """When the first of its even steps begins; both in seconds since the epoch."""
        end = self.until.timestamp() if self.until else (now // self.step + 1) * self.step
        return end - self.seconds


@dataclass(frozen=True)
class Asked:
    """A span, and what it is called if it is one of those that are offered."""

    span: Span
    name: str = ""


@dataclass(frozen=True)
class Ranges:
    """What can be asked of one kind of series: its spans by name, and how far back there are points of each step."""

    spans: Mapping[str, Span]
    kept: Mapping[int, timedelta]  # the finest step first

    @property
    def longest(self) -> timedelta:
        """How far back there are any points."""
        return max(self.kept.values())

    @property
    def kept_for(self) -> str:
        """The same in words."""
        return f"{self.longest.days} days" if self.longest.days > 1 else f"{self.longest // timedelta(hours=1)} hours"

    def parameters(self) -> dict[str, serializers.Field]:
        return {
            "span": serializers.ChoiceField(tuple(self.spans), help_text=f"How far back; {DEFAULT}, when left out."),
            "from": serializers.DateTimeField(help_text=f"Instead of a span: from when, at most {self.kept_for} ago."),
            "to": serializers.DateTimeField(help_text="With `from`: until when; until now, when left out."),
        }

    def read(self, values: Mapping[str, Any]) -> Asked:
        """What the parameters mean. Raises Invalid, naming every fault."""
        name, begin = values.get("span", DEFAULT), values.get("from")
        if begin is None:
            if "to" in values:
                raise Invalid(errors=[Fault("?from", "Give `from`, too.", "required")])
            return Asked(self.spans[name], name)
        now, faults = timezone.now(), []
        end = min(values.get("to", now), now)
        if "span" in values:
            faults.append(Fault("?span", "Give either a span, or `from` and `to`."))
        if begin >= end:
            faults.append(Fault("?from", "It has to be before `to`, and not in the future."))
        if begin < now - self.longest:
            faults.append(Fault("?from", f"What was measured is kept for {self.kept_for}."))
        if faults:
            raise Invalid(errors=faults)
        return Asked(self._between(begin, end, now))

    def asked(self, query: QueryDict) -> Asked:
        """The same for a page, on which what makes no sense means the last hour."""
        try:
            given = QueryDict(mutable=True)
            for name in self.parameters():
                if value := query.get(name):
                    given[name] = str(value)
            return self.read(read_parameters(given, self.parameters()))
        except Invalid:
            return Asked(self.spans[DEFAULT], DEFAULT)

    def _between(self, begin: datetime, end: datetime, now: datetime) -> Span:
        """In the finest steps that are kept from `begin` on, and are not too many."""
        seconds = (end - begin).total_seconds()
        fine = (step for step, age in self.kept.items() if now - begin <= age and seconds / step <= MAX_POINTS)
        step = next(fine, max(self.kept))
        last = int(-(-end.timestamp() // step)) * step
        first = int(begin.timestamp() // step) * step
        return Span(last - first, step, None if end == now else datetime.fromtimestamp(last, UTC))
