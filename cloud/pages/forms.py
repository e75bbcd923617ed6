"""From the fields of an HTML form to the JSON body that the API would take. Checking is the API's business."""

import contextlib
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import QueryDict
from rest_framework import serializers

_WHOLE_NUMBER = re.compile(r"-?\d{1,18}")
_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,18})?")


def texts(post: Mapping[str, str], *names: str) -> dict[str, str]:
    """Texts that were filled in; what was left empty is left out."""
    return {name: text for name in names if (text := str(post.get(name, "")).strip())}


def required(post: QueryDict, *names: str) -> dict[str, str]:
    """Texts that the API wants: also sent when empty, so that it says so."""
    return {name: post.get(name, "").strip() for name in names}


def whole(post: Mapping[str, str], *names: str) -> dict[str, Any]:
    """Whole numbers. Other text is passed on unchanged, for the API's form to refuse."""
    found = texts(post, *names)
    return {name: int(text) if _WHOLE_NUMBER.fullmatch(text) else text for name, text in found.items()}


def number(post: QueryDict, *names: str) -> dict[str, Any]:
    """Numbers that may have a fraction. Other text is passed on unchanged, for the API's form to refuse."""
    found = texts(post, *names)
    return {name: float(text) if _NUMBER.fullmatch(text) else text for name, text in found.items()}


def body(post: QueryDict, form: type[serializers.Serializer]) -> dict[str, Any]:
    """What a form says for the fields of a body. A control `how` may name a flag, which is then the whole body."""
    fields = form().fields
    if (how := post.get("how", "")) in fields:
        return {how: True}
    found: dict[str, Any] = {}
    for name, field in fields.items():
        match field:
            case serializers.BooleanField():
                found |= {name: True} if name in post else {}
            case serializers.IntegerField():
                found |= whole(post, name)
            case serializers.ListField():
                found |= {name: post.getlist(name)} if name in post else {}
            case _:
                found |= required(post, name) if field.required or name in post else {}
    return found


def flags(post: QueryDict, *names: str) -> dict[str, bool]:
    """Check boxes: an unticked one is not sent by the browser, and means no."""
    return {name: name in post for name in names}


def labels(post: QueryDict, name: str = "labels") -> dict[str, str]:
    """Lines or commas of `key=value`, or a JSON object, which can say every value."""
    return labels_in(post.get(name, ""))


def labels_in(text: str) -> dict[str, str]:
    if text.lstrip().startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):  # the API says what is wrong with it
            return dict(json.loads(text))
    found = {}
    for part in re.split(r"[\n,]", text):
        key, _, value = part.partition("=")
        if key.strip():
            found[key.strip()] = value.strip()
    return found


def labels_as_text(found: Mapping[str, str]) -> str:
    """As lines; as JSON where lines would come back as something else."""
    lines = "\n".join(f"{key}={value}" for key, value in found.items())
    return lines if labels_in(lines) == found else json.dumps(found, ensure_ascii=False)


@dataclass(frozen=True)
class Field:
    """How one member of the API's body is read from a form, and how its value is written into one."""

    read: Callable[[QueryDict, str], dict[str, Any]]
    write: Callable[[Any], Any] = lambda value: value


TEXT = Field(texts)
REQUIRED = Field(required)
WHOLE = Field(lambda post, name: {**required(post, name), **whole(post, name)})
OPTIONAL_WHOLE = Field(
    lambda post, name: {name: None, **whole(post, name)}, lambda value: "" if value is None else value
)
NUMBER = Field(lambda post, name: {**required(post, name), **number(post, name)}, "{:g}".format)
FLAG = Field(flags, lambda value: "on" if value else "")
LABELS = Field(lambda post, name: {name: labels(post, name)}, labels_as_text)


def read(post: QueryDict, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The body that a form with these fields means."""
    return {key: value for name, field in fields.items() for key, value in field.read(post, name).items()}


def write(row: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
    """What these fields hold for a row."""
    return {name: field.write(getattr(row, name)) for name, field in fields.items()}


def as_curl(method: str, path: str, body: Mapping[str, Any] | None = None) -> str:
    """The same call for a shell. `$TOKEN` is the reader's own."""
    lines = [f"curl -X {method} {settings.PUBLIC_URL}/api/v1/{path}", '-H "Authorization: Bearer $TOKEN"']
    if body is not None:
        lines += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(json.dumps(body, indent=2))}"]
    return " \\\n  ".join(lines)


def as_python(method: str, path: str, body: Mapping[str, Any] | None = None) -> str:
    """The same call for Python's httpx."""
    sent = f"\n    json={_python(body)}," if body is not None else ""
    return (
        "import os\n\nimport httpx\n\n"
        f'answer = httpx.{method.lower()}(\n    "{settings.PUBLIC_URL}/api/v1/{path}",\n'
        '    headers={"Authorization": "Bearer " + os.environ["TOKEN"]},'
        f"{sent}\n)\nprint(answer.json())"
    )


def _python(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, indent=4, ensure_ascii=False).replace("\n", "\n    ")
    # JSON's words that are others in Python stand at the end of a line, never inside of a text that spans one.
    return re.sub(r"(?m)(: |^\s+)(true|false|null)(,?)$", lambda m: m[1] + _WORDS[m[2]] + m[3], text)


_WORDS = {"true": "True", "false": "False", "null": "None"}
