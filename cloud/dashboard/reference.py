"""The OpenAPI document for people: its calls by resource, each with an example that works when it is pasted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from cloud.api.documentation import document
from cloud.dashboard.examples import BODIES, NAMES

PREFIX = "/api/v1/"
METHODS = ("get", "post", "put", "patch", "delete")
JSON = "application/json"
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Member:
    """A parameter, or a member of a body: what it is called, takes and means."""

    name: str
    type: str
    words: str
    required: bool


@dataclass(frozen=True)
class Call:
    """One operation. `path` is below /api/v1/, with its variables in braces."""

    ident: str
    method: str
    path: str
    summary: str
    description: str
    variables: list[str]
    parameters: list[Member]
    members: list[Member]
    body: dict[str, Any] | None  # an example
    answers: list[tuple[str, str]]
    answer: list[Member]  # of what it shows

    @property
    def takes(self) -> str:
        """The words that its pieces of a shell command begin with: the method, as OpenAPI writes it."""
        return self.method.upper()

    def address(self, project: str) -> str:
        """Its path with names in it."""
        path = self.path.replace("{project}", project)
        for variable in self.variables:
            path = path.replace(f"{{{variable}}}", self.name_of(variable))
        return path

    def name_of(self, variable: str) -> str:
        """What a variable of the path could be, by the resource before it."""
        before = self.path.partition(f"/{{{variable}}}")[0].rpartition("/")[2]
        return NAMES.get(before, "name-or-id")


@cache
def calls() -> dict[str, list[Call]]:
    """Every call, by the resource that it is about."""
    found: dict[str, list[Call]] = {}
    for route, methods in sorted(document()["paths"].items()):
        for method in METHODS:
            if method in methods:
                operation = methods[method]
                found.setdefault(operation["tags"][0], []).append(_call(route, method, operation))
    return found


def _call(route: str, method: str, operation: Schema) -> Call:
    parameters = operation.get("parameters", [])
    sent = operation.get("requestBody", {}).get("content", {})
    path = route.removeprefix(PREFIX)
    schema = _resolved(sent.get(JSON, {}).get("schema", {}))
    return Call(
        ident=operation["operationId"],
        method=method,
        path=path,
        summary=operation["summary"],
        description=operation.get("description", ""),
        variables=[each["name"] for each in parameters if each["in"] == "path"],
        parameters=[_parameter(each) for each in parameters if each["in"] == "query"],
        members=list(_members(schema)),
        body=BODIES.get(f"{method.upper()} {path}", _least(schema)) if JSON in sent else None,
        answers=[(status, answer.get("description", "")) for status, answer in operation["responses"].items()],
        answer=[replace(member, required=False) for member in _members(_shown(operation["responses"]))],
    )


def _parameter(given: Schema) -> Member:
    return Member(given["name"], _type(given["schema"]), given.get("description", ""), given.get("required", False))


def _members(schema: Schema) -> Iterator[Member]:
    required = schema.get("required", ())
    for name, given in schema.get("properties", {}).items():
        words = given.get("description", "") or _resolved(given).get("description", "")
        yield Member(name, _type(given), words, name in required)


def _shown(answers: Mapping[str, Schema]) -> Schema:
    """The schema of what a success shows; of a list, that of its items."""
    for status in ("200", "201", "202"):
        schema = _resolved(answers.get(status, {}).get("content", {}).get(JSON, {}).get("schema", {}))
        items = schema.get("properties", {}).get("items", {})
        if schema:
            return _resolved(items.get("items", {})) if items.get("type") == "array" else schema
    return {}


def _resolved(schema: Schema) -> Schema:
    """A schema itself, where another refers to it; of several, the first."""
    if "$ref" in schema:
        found: Schema = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return _resolved(found)
    for several in ("oneOf", "anyOf", "allOf"):
        if several in schema:
            return _resolved(schema[several][0])
    return schema


def _type(schema: Schema) -> str:
    """A few words for the type of a value: "integer", "list of strings", "running or stopped"."""
    shown = _resolved(schema)
    if "enum" in shown:
        return " or ".join(str(value) for value in shown["enum"] if value is not None)
    kind = shown.get("type", "any")
    kinds = [kind] if isinstance(kind, str) else list(kind)
    words = " or ".join(one for one in kinds)
    if kind == "array":
        return f"list of {_type(shown.get('items', {}))}"
    return f"{words} ({shown['format']})" if "format" in shown else words


def _least(schema: Schema) -> dict[str, Any]:
    """A body of what is required; where nothing is, one with new labels or nothing."""
    own = schema.get("properties", {})
    if not schema.get("required"):
        return {"labels": {"tier": "front"}} if "labels" in own else {}
    return {name: "web" if name == "name" else _value(own[name]) for name in schema["required"]}


def _value(schema: Schema) -> Any:
    shown = _resolved(schema)
    if "enum" in shown:
        return shown["enum"][0]
    plain = {"integer": shown.get("minimum", 1), "number": 1, "boolean": True, "array": [], "object": {}}
    return plain.get(shown.get("type", ""), "text")
