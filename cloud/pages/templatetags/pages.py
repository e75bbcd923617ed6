"""What templates may say: icons, times, sizes, files by their hash, and the fields of forms."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from django import template
from django.contrib.staticfiles import finders
from django.templatetags.static import static
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from cloud.pages import assets, words
from cloud.pages.icons import PATHS
from cloud.problems import Problem

register = template.Library()

register.filter("memory", words.memory)
register.filter("price", words.price)
register.filter("monthly", words.monthly)
register.filter("money", words.money)
register.filter("seconds", words.seconds)
register.filter("kind", words.kind)


@register.simple_tag
@cache
def icon(name: str, label: str = "") -> SafeString:
    """A drawing; with a label it speaks, without one it is decoration."""
    heard = format_html('role="img" aria-label="{}"', label) if label else mark_safe('aria-hidden="true"')  # noqa: S308
    return format_html('<svg class="icon" viewBox="0 0 24 24" {}><path d="{}"/></svg>', heard, PATHS[name])


@register.simple_tag
def asset(path: str) -> str:
    """The URL of a file of ours. It changes with the file, so that a browser may keep it for long."""
    return f"{static(path)}?v={_hash_of(path)}"


@cache
def _hash_of(path: str) -> str:
    found = finders.find(path)
    return hashlib.sha256(Path(found).read_bytes()).hexdigest()[:12] if found else ""


@register.simple_tag
def vendor(name: str) -> str:
    """The URL of somebody else's file, or nothing while it has not been fetched."""
    for package in assets.SERVED:
        if name in package.files.values():
            return static(f"vendor/{package.folder}/{name}") if assets.is_laid_out(package) else ""
    raise LookupError(name)


@register.simple_tag
def when(moment: Any) -> SafeString:
    """A time as seen from now; the exact one on hover."""
    if isinstance(moment, str):
        moment = parse_datetime(moment)
    if not isinstance(moment, datetime):
        return SafeString("")
    exact = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    seen = words.relative(moment, timezone.now())
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), exact, seen)


@register.filter
def clock(moment: Any) -> str:
    if isinstance(moment, str):
        moment = parse_datetime(moment)
    return f"{moment:%H:%M:%S}" if isinstance(moment, datetime) else ""


@register.filter
def amount(value: int, kind: str) -> str:
    return words.amount(kind, value)


@register.filter
def percent(part: float, whole: float) -> int:
    """How much of the whole a part is, 0 to 100."""
    return min(100, max(0, round(100 * part / whole))) if whole else 0


@register.filter
def fixer(problem: Problem) -> str:
    return words.FIXERS[problem.fix_by]


@register.filter
def at(values: Mapping[str, Any], key: str) -> Any:
    """`{{ values|at:name }}`: what a mapping has under a key that only the template knows."""
    return values.get(key, "") if values else ""


@register.filter
def all_of(values: Any, key: str) -> list[str]:
    """Every value of a field that may be chosen several times."""
    if hasattr(values, "getlist"):
        return list(values.getlist(key))
    found = values.get(key, []) if values else []
    return list(found) if isinstance(found, list | tuple) else [found]


def faults_of(problem: Problem | None, name: str) -> list[str]:
    """What is wrong with one member of the body, itself or inside of it."""
    if problem is None:
        return []
    own, inside = f"/{name}", f"/{name}/"
    return [fault.message for fault in problem.errors if fault.pointer == own or fault.pointer.startswith(inside)]


@register.simple_tag(takes_context=True)
def faults(context: Any, name: str) -> list[str]:
    return faults_of(context.get("problem"), name)


@register.inclusion_tag("pages/parts/field.html", takes_context=True)
def field(context: Any, name: str, label: str, **options: Any) -> dict[str, Any]:
    """A form's row: label, hint, control, faults. Options: type, hint, required, choices, rows, and attributes."""
    values = context.get("values") or {}
    value = values.get(name, options.pop("value", ""))
    return {
        "name": name,
        "label": label,
        "value": value,
        "checked": str(value).lower() in ("on", "true", "1"),
        "faults": faults_of(context.get("problem"), name),
        "type": "text",
        **options,
    }


@register.filter
def tone(status: str) -> str:
    """The colour of a state; what is on its way is busy."""
    return words.TONES.get(status, "busy")


@register.filter
def to_do(fix_by: str) -> str:
    """What is to be done about work that failed, by who can do it; "" of other work."""
    return words.TO_DO.get(fix_by, "")


@register.filter
def toast_tone(outcome: str) -> str:
    """The colour of a toast that tells of an outcome."""
    return {"good": "success", "bad": "error"}.get(tone(outcome), "info")


@register.filter
def fullness(used: float, limit: float) -> str:
    """How worrying it is that so much of a limit is used."""
    if limit and used >= limit:
        return "bad"
    return "warn" if limit and used >= 0.8 * limit else ""


@register.filter
def field_of(pointer: str) -> str:
    """/keypairs/0 → keypairs"""
    return pointer.lstrip("/").partition("/")[0]


@register.filter
def pairs(text: str) -> list[tuple[str, str]]:
    """ "a:Apple,b:Pear" → choices; what has no colon belongs to the words before it."""
    found: list[tuple[str, str]] = []
    for part in text.split(","):
        value, colon, label = part.partition(":")
        if colon:
            found.append((value, label))
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]},{part}")
    return found


@register.filter
def commas(text: str) -> list[str]:
    return text.split(",")


CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|[\x00-\x08\x0b-\x1f\x7f]")


@register.filter
def visible(line: str) -> str:
    """A console's line without what moves the cursor and paints: the log is text."""
    return CONTROL.sub("", line)


@register.filter
def as_download(text: str) -> SafeString:
    """A link that holds the text itself, so that it can be saved without asking the server again."""
    return mark_safe("data:application/octet-stream;base64," + base64.b64encode(text.encode()).decode())  # noqa: S308


CODE = re.compile(r"`([^`\n]+)`")


@register.filter
def with_code(text: str) -> SafeString:
    """Text in which `this` is code."""
    return mark_safe(CODE.sub(r"<code>\1</code>", escape(text)))  # noqa: S308


@register.filter
def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


@register.filter
def less(whole: float, part: float) -> float:
    return whole - part


@register.filter
def browser(agent: str) -> str:
    """Firefox on Linux, out of what a browser calls itself."""
    return words.browser(agent)


@register.filter
def ratio(part: float, whole: float) -> str:
    """How many times one is in the other: 1.5"""
    return f"{part / whole:.2f}".rstrip("0").rstrip(".") if whole else "0"


@register.filter
def repairable(check: Any) -> bool:
    """Whether the cloud can put right something of what a check found."""
    return any(breach["repairable"] for breach in check.breaches)


@register.filter
def unit(kind: str) -> str:
    """The unit in which a limit of this kind is written."""
    return "MiB" if kind.endswith("_mib") else "GiB" if kind.endswith("_gib") else ""


@register.filter
def ways(runs: list[str]) -> list[str]:
    """What a host can run, with the accelerator where there is one: ["qemu/x86_64", "qemu/x86_64/kvm"] → one tag."""
    return [way for way in runs if not any(other.startswith(f"{way}/") for other in runs)]


@register.filter
def hypervisors(runs: list[str]) -> list[str]:
    """What a host can run, in short: ["qemu/x86_64", "qemu/x86_64/kvm", "unicorn/riscv64"] → "qemu with kvm" …"""
    with_kvm = {way.partition("/")[0] for way in runs if way.endswith("/kvm")}
    return [
        f"{name} with kvm" if name in with_kvm else name for name in sorted({way.partition("/")[0] for way in runs})
    ]
