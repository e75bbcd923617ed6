"""Sizes, prices, times and verbs as people say them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.utils.safestring import SafeString

HOURS_A_MONTH = 730
MAX_ORDER = 10_000
UNITS = (("y", 365 * 86400), ("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
# Apps add their own words to these in their `pages.entries`; here is what every app says.
LIMITS: dict[str, tuple[int, str]] = {}  # what a quota limits → its place among the others, its name
SUBJECTS: dict[str, str] = {}  # types of subjects that are called otherwise: "floating_ip" → "floating IP"
OPERATIONS: dict[str, str] = {}
STEPS = {
    "settle": "Tidy up",
    "abandon": "Withdraw the order",
    "clear_up": "Clear up",
    "release": "Give back what it held",
    "take_back": "Withdraw it",
    "restore": "Restore what was",
}
VERBS = {
    "delete": "deleted",
    "create": "created",
    "update": "changed",
    "cancel": "asked to cancel",
    "give_up": "gave up on",
    "attach": "attached",
    "detach": "detached",
}
SENTENCES: dict[str, Callable[["Telling"], SafeString]] = {}  # events that are told otherwise than by a verb
FILTERED: list[str] = []  # verbs that the log of events can be filtered by
FILTERS = {"create": "created", "update": "changed", "finish": "finished", "cancel": "cancelled"}
UNSAID = {"kind", "subject", "outcome"}  # what the sentence of an event says already
TONES = {"error": "bad", "queued": "idle", "waiting": "idle"}  # colours of states; what is not here is on its way
TO_DO = {
    "you": "You can fix this yourself: change what it names, and try again.",
    "operator": "An admin of the cloud has to look at this, and sees it on the health page.",
    "nobody": "Nothing has to be fixed: try again.",
}  # about work that failed, by who can do something about it
FIXERS = {"you": "", "project_admin": "An admin of the project can fix this.",
          "operator": "An admin of the cloud can fix this."}  # fmt: skip


@dataclass(frozen=True)
class Telling:
    """An event that is told: its subject is a link or a name, its actor as this reader may know it."""

    event: Any
    subject: SafeString
    actor: str
    after: Mapping[str, Any]
    is_for_tenants: bool


def tones(tone: str, *states: str) -> None:
    """Give states a colour: good, idle, warn or bad."""
    TONES.update(dict.fromkeys(states, tone))


def limits(order: int, **titles: str) -> None:
    """Name what a quota limits. What has a lower order is shown first."""
    LIMITS.update({name: (order, title) for name, title in titles.items()})


def memory(mib: int) -> str:
    """512 → "512 MiB"; 1536 → "1.5 GiB"."""
    if abs(mib) < 1024:
        return f"{mib} MiB"
    return f"{mib / 1024:.1f}".removesuffix(".0") + " GiB"


def seconds(value: float) -> str:
    """A short time: 0.4 → "0.40 s", 12.3 → "12.3 s", 130 → "2 min"."""
    if value >= 120:
        return span(timedelta(seconds=value))
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def measure(value: float, unit: str) -> str:
    """What was measured, as short as it can be told: 1536.0, "bytes/s" → "1.5 KiB/s"."""
    if unit == "MiB":
        return memory(round(value))
    if unit == "GiB":
        return f"{_short(value)} GiB"
    if unit == "bytes/s":
        for prefix in ("B", "KiB", "MiB"):
            if value < 1024:
                return f"{_short(value)} {prefix}/s"
            value /= 1024
        return f"{_short(value)} GiB/s"
    return f"{_short(value)} %" if unit == "percent" else f"{_short(value)}/s"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}".removesuffix(".0")


def amount(kind: str, value: int) -> str:
    """A number of a quota's kind, with its unit."""
    if kind.endswith("_mib"):
        return memory(value)
    if kind == "percent":
        return f"{value:.0f} %"
    return f"{value} GiB" if kind.endswith("_gib") else str(value)


def kind(name: str) -> str:
    return LIMITS[name][1] if name in LIMITS else name.replace("_", " ").capitalize()


def ordered(usage: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """A quota's kinds in the order in which people think of them; unknown ones last."""
    return sorted(usage.items(), key=lambda item: LIMITS[item[0]][0] if item[0] in LIMITS else MAX_ORDER)


def limits_asked(text: str) -> str:
    """What a quota request is called, for people: "98304 memory_mib" → "96 GiB of memory"."""
    found = []
    for part in text.split(", "):
        number, _, name = part.partition(" ")
        label = kind(name)
        of = "of " if name.endswith(("_mib", "_gib")) else ""
        is_known = number.isdigit() and label
        found.append(f"{amount(name, int(number))} {of}{label[:1].lower()}{label[1:]}" if is_known else part)
    return ", ".join(found)


def price(per_hour: Decimal | None) -> str:
    """The price of an hour, with as many decimal places as it needs, and the currency."""
    if not per_hour:
        return "free"
    text = f"{per_hour:.6f}".rstrip("0")
    whole, _, places = text.partition(".")
    return _in_currency(f"{whole}.{places:0<2}")


def money(sum_: Decimal) -> str:
    """A sum to the second decimal place, and the currency. A smaller one than 0.01 is not shown as nothing."""
    return _in_currency("< 0.01" if 0 < sum_ < Decimal("0.01") else f"{sum_:.2f}")


def monthly(per_hour: Decimal | None) -> str:
    """What an hour's price is in a month, and the currency."""
    return _in_currency(f"{(per_hour or 0) * HOURS_A_MONTH:.2f}")


def _in_currency(number: str) -> str:
    return f"{number}\N{NO-BREAK SPACE}{settings.CURRENCY}"


def span(time: timedelta) -> str:
    """A length of time in its largest unit: "3 min"."""
    seconds = max(0, int(time.total_seconds()))
    for unit, length in UNITS:
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return "0 s"


def relative(moment: datetime, now: datetime) -> str:
    """A moment seen from now: "3 min ago", "in 2 h", "just now"."""
    distance = now - moment
    if abs(distance) < timedelta(seconds=5):
        return "just now"
    return f"{span(distance)} ago" if distance > timedelta(0) else f"in {span(-distance)}"


def event(action: str) -> str:
    """The verb of an event in the past tense, as its sentence goes on after who did it.

    VERBS may have the whole action, where its verb means something else than elsewhere.
    """
    verb = action.rpartition(".")[2]
    return VERBS.get(action) or VERBS.get(verb, verb.replace("_", " "))


def subject(kind: str) -> str:
    """The type of a subject inside of a sentence."""
    return SUBJECTS.get(kind, kind.replace("_", " "))


def changes(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """What an event changed: (field, before, after), without what stayed the same."""
    before, after = before or {}, after or {}
    rows = []
    for name in [*before, *(name for name in after if name not in before)]:
        if name in UNSAID:
            continue
        old, new = plain(before.get(name)), plain(after.get(name))
        if old != new and (old or new != "no"):
            rows.append((name.replace("_", " "), old, new))
    return rows


def plain(value: Any) -> str:
    """A JSON value as text."""
    match value:
        case None | "":
            return ""
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{key}={plain(inner)}" for key, inner in value.items())
        case list():
            return ", ".join(plain(inner) for inner in value)
    return str(value)


BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari"))
SYSTEMS = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS", "macOS"),
           ("Linux", "Linux"))  # fmt: skip


def browser(agent: str) -> str:
    """What a browser calls itself, as people call it: "Firefox on Linux"."""
    name = next((name for mark, name in BROWSERS if mark in agent), agent.partition("/")[0][:40] or "unknown")
    system = next((system for mark, system in SYSTEMS if mark in agent), "")
    return f"{name} on {system}" if system else name
