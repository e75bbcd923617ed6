"""The OpenAPI document, derived from what the views declare: forms, serializers, parameters, filters, roles."""

from collections.abc import Mapping
from inspect import cleandoc
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema as Spectacular
from drf_spectacular.plumbing import build_array_type, build_object_type, force_instance
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from cloud.api import views
from cloud.api.mutations import may_begin
from cloud.api.serializers import Nothing
from cloud.problems import CATALOGUE

MUTATING = {"POST", "PUT", "PATCH", "DELETE"}
OCTETS = "application/octet-stream"


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = "cloud.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class SessionScheme(OpenApiAuthenticationExtension):
    target_class = "cloud.api.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


class FaultSerializer(serializers.Serializer):
    pointer = serializers.CharField(help_text="JSON pointer into the body, or ?parameter.")
    message = serializers.CharField()
    code = serializers.CharField()


class ProblemSerializer(serializers.Serializer):
    """RFC 9457. Some codes add members: `busy` names the live `operation`, `over_quota` the `quota` exceeded."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.ChoiceField(sorted(CATALOGUE))
    detail = serializers.CharField()
    errors = FaultSerializer(many=True)  # type: ignore[assignment]
    retryable = serializers.BooleanField()
    fix_by = serializers.ChoiceField(["you", "project_admin", "operator"])
    request_id = serializers.CharField()


class AutoSchema(Spectacular):
    """Reads a `cloud.api.views.View`."""

    view: Any

    def get_operation_id(self) -> str:
        words = [part for part in self.path.removeprefix("/api/v1/").replace("-", "_").split("/") if part]
        names = [word for word in words if not word.startswith("{")]
        verb = {"GET": "get", "POST": "create", "PATCH": "change", "DELETE": "delete", "PUT": "put"}[self.method]
        if isinstance(self.view, views.Collection) and self.method == "GET":
            verb = "list"
        if isinstance(self.view, views.Verb):
            verb, names = names[-1], names[:-1]
        return "_".join([verb, *names])

    def get_summary(self) -> str:
        """Like "List instances", "Show an instance", "Start an instance", "Change the quota"."""
        if said := self.view.summaries.get(self.method):
            return str(said)
        noun = _noun(self.path, verb=isinstance(self.view, views.Verb))
        if isinstance(self.view, views.Verb):
            return f"{self.path.rpartition('/')[2].capitalize()} {_one(noun)}"
        if isinstance(self.view, views.Collection):
            return f"List {noun}" if self.method == "GET" else f"Create {_one(noun)}"
        does = {"GET": "Show", "POST": "Create", "PATCH": "Change", "DELETE": "Delete", "PUT": "Set"}[self.method]
        return f"{does} {_one(noun) if self.path.endswith('}') else f'the {noun}'}"

    def get_description(self) -> str:  # type: ignore[override]
        """What the view says of itself, or its service of this method; and who may."""
        if said := self.view.descriptions.get(self.method):
            return f"{said}\n\n{self._who_may()}"
        own = type(self.view).__dict__
        services = {"POST": ("create", "act"), "PATCH": ("change",), "DELETE": ("remove",)}.get(self.method, ())
        said = [own[name].__doc__ for name in services if name in own]
        if self.method == "GET" or "GET" not in self.view.allowed_methods:
            said.append(own.get("__doc__"))
        return "\n\n".join(cleandoc(words) for words in (*said, self._who_may()) if words)

    def _who_may(self) -> str:
        if self.view.needs_admin.get(self.method):
            return "For admins of the cloud."
        if isinstance(self.view, views.InProject):
            role = self.view.role_for(self.method).label.lower()
            return f"For those with the role {role} in the project, or a higher one."
        return ""

    def get_tags(self) -> list[str]:
        words = [part for part in self.path.removeprefix("/api/v1/").split("/") if part and not part.startswith("{")]
        return [words[1] if len(words) > 1 and words[0] == "projects" else words[0]]

    def _is_list_view(self, serializer: Any = None) -> bool:
        return False

    def get_request_serializer(self) -> Any:
        if self.method not in MUTATING - {"DELETE"}:
            return None
        form = self.view.forms.get(self.method)
        if form is None or form is Nothing:
            return None
        return form(partial=self.method == "PATCH")

    def get_response_serializers(self) -> Any:
        answers: dict[Any, Any] = {200: self._shown()}
        if self.method in MUTATING:
            answers = self._mutation_answers()
        elif self.view.brings_file:
            part = OpenApiResponse(OpenApiTypes.BINARY, description="The part that Range asks for.")
            answers = {(200, OCTETS): OpenApiTypes.BINARY, (206, OCTETS): part}
        elif self.view.streams:
            events = {"type": "string", "description": "Server-sent events: `id` is a cursor, `data` one event."}
            answers[200, "text/event-stream"] = OpenApiResponse(events)
        elif isinstance(self.view, views.Item):
            answers[304] = OpenApiResponse(description="You have it already.")
        media = "application/problem+json"
        for status in self._refusals():
            answers[status, media] = OpenApiResponse(ProblemSerializer, description=", ".join(_codes(status)))
        return answers

    def _mutation_answers(self) -> dict[Any, Any]:
        """202 wherever work may begin; a delete that begins none leaves nothing to show."""
        shown, serializer = self._shown(), self._serializer()
        begun = OpenApiResponse(shown, description="Begun: `operation` tells how it goes.")
        begins = {202: begun} if may_begin(self.method, serializer() if serializer else None) else {}
        if self.method == "DELETE" and not begins:
            plan = OpenApiResponse({"type": "object"}, description="A dry run's plan.")
            return {204: OpenApiResponse(description="Gone."), 200: plan}
        return {self.view.successes.get(self.method, 200): shown, **begins}

    def _serializer(self) -> type[serializers.Serializer] | None:
        created = self.view.created if self.method == "POST" else None
        serializer: type[serializers.Serializer] | None = created or self.view.serializer
        return serializer

    def _shown(self) -> Any:
        serializer = self._serializer()
        if serializer is None:
            return OpenApiResponse({"type": "object"}, description="")
        several = getattr(self.view, "may_create_several", False)
        if not isinstance(self.view, views.Collection) and not several:
            return serializer
        item = self.resolve_serializer(force_instance(serializer), "response").ref
        if self.method in {"GET", "HEAD"}:
            return self._page(item)
        return {"oneOf": [item, self._page(item)]} if several else serializer

    def _page(self, item: dict[str, Any]) -> dict[str, Any]:
        return build_object_type(
            properties={
                "items": build_array_type(item),
                "next": {"type": ["string", "null"], "format": "uri", "description": "The next page, or null."},
            },
            required=["items", "next"],
        )

    def _refusals(self) -> list[int]:
        refusals = [400, 401, 403, 404, 429, 503]
        if self.method in MUTATING:
            refusals += [409, 412, 413, 415]
        elif self.view.brings_file:
            refusals += [409, 416]
        return sorted(refusals)

    def get_override_parameters(self) -> list[Any]:
        found = [self._path_parameter(name) for name in _variables(self.path)]
        known: dict[str, serializers.Field] = dict(self.view.parameters.get(self.method, {}))
        if self.method in MUTATING:
            known["dry_run"] = views.DRY_RUN
            found.append(
                OpenApiParameter(
                    "Idempotency-Key",
                    {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[ -~]+$"},
                    OpenApiParameter.HEADER,
                    description="The same key and request get the same answer for 24 hours.",
                )
            )
        if self.method in {"PATCH", "DELETE"}:
            found.append(OpenApiParameter("If-Match", str, OpenApiParameter.HEADER, description="The object's ETag."))
        if self.view.brings_file:
            words = "Part of it: `bytes=FIRST-LAST`."
            found.append(OpenApiParameter("Range", str, OpenApiParameter.HEADER, description=words))
        if self.view.streams:
            words = "With `Accept: text/event-stream`: go on behind this event."
            found.append(OpenApiParameter("Last-Event-ID", str, OpenApiParameter.HEADER, description=words))
        if isinstance(self.view, views.Collection) and self.method == "GET":
            known |= self.view.paging
            known |= {name: filtered.field for name, filtered in self.view.filters.items()}
            if self.view.has_labels:
                label = {"type": "array", "items": {"type": "string", "pattern": "^[^:]{1,63}:"}, "maxItems": 50}
                found.append(OpenApiParameter("label", label, description="key:value; may be repeated.", explode=True))
        return found + [self._query_parameter(name, field) for name, field in known.items()]

    def _path_parameter(self, name: str) -> OpenApiParameter:
        return OpenApiParameter(name, str, OpenApiParameter.PATH, required=True, description="A name or an id.")

    def _query_parameter(self, name: str, field: Any) -> OpenApiParameter:
        schema: Mapping[str, Any] = self._map_serializer_field(field, "request")
        return OpenApiParameter(name, dict(schema), description=str(field.help_text or ""))


def _variables(route: str) -> list[str]:
    return [part[1:-1] for part in route.split("/") if part.startswith("{")]


def _noun(route: str, *, verb: bool) -> str:
    """What a path is about, as its last word that is neither a variable nor the verb."""
    words = [word for word in route.split("/") if word and not word.startswith("{")]
    return words[-2 if verb else -1].replace("-", " ").replace("keypair", "key pair")


def _one(noun: str) -> str:
    """One of a number: an instance, a key pair, a quota request."""
    singular = noun.removesuffix("s")
    return f"{'an' if singular[0] in 'aeio' else 'a'} {singular}"


def _codes(status: int) -> list[str]:
    return sorted(code for code, statuses in CATALOGUE.items() if status in statuses)
