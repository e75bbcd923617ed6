"""What every endpoint shares. A view names its rows, its bodies and one service per verb; the rest is here.

Reading: `Collection` and `Item` answer GET from `rows()`. Changing: `mutate` runs one service in one transaction, with
idempotency, dry run and If-Match. docs/adding-a-resource.md shows a whole resource.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import quote

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model, QuerySet
from rest_framework import serializers
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cloud.api import limits, pagination, transactions
from cloud.api.errors import MethodNotAllowed, NotFound, Problem, Stale, Unauthenticated
from cloud.api.fields import by_reference
from cloud.api.pagination import Filter
from cloud.api.parsers import accept_chunks
from cloud.api.scope import Scope
from cloud.api.serializers import Body, Nothing
from cloud.events.services import Actor
from cloud.tenancy import quota
from cloud.tenancy.models import Project, Role, User

LIMIT = serializers.IntegerField(min_value=1, max_value=pagination.LARGEST_LIMIT, help_text="Objects on a page.")
CURSOR = serializers.CharField(max_length=1000, help_text="Where the page begins: taken from `next`.")
DRY_RUN = serializers.BooleanField(help_text="Answer as if, with a `plan`; change nothing.")


class OnlyJSON(BaseContentNegotiation):
    """Answers are JSON whatever Accept says; bodies are parsed by their media type."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == media_type), None)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> tuple[Any, str]:
        return renderers[0], renderers[0].media_type


class Once:
    """A new object together with its secret, which this answer shows and nothing keeps."""

    def __init__(self, row: Model, secret: str | None):
        self.row, self.secret = row, secret


class View(APIView):
    """Base of all views: authenticates, limits the rate, finds the project, reads parameters and bodies."""

    content_negotiation_class = OnlyJSON
    parameters: ClassVar[Mapping[str, Mapping[str, serializers.Field]]] = {}  # by method
    forms: ClassVar[Mapping[str, type[serializers.Serializer]]] = {}  # bodies, by method
    serializer: ClassVar[type[serializers.Serializer] | None] = None  # of answers
    created: ClassVar[type[serializers.Serializer] | None] = None  # of answers to POST, where they show more
    needs_admin: ClassVar[Mapping[str, bool]] = {}  # methods that only admins of the cloud may use
    works: ClassVar[bool] = False  # whether a change may go on as an operation (202)
    public: ClassVar[bool] = False  # also for callers who have not signed in

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        accept_chunks(request)
        return super().initialize_request(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.format_kwarg = None
        self.request.accepted_renderer, self.request.accepted_media_type = self.perform_content_negotiation(request)
        self.identify(request)
        self.limit_rate(request)
        if self.is_known:
            self.enter(**kwargs)
        method = (request.method or "").lower()
        if method not in self.http_method_names or not hasattr(self, method):
            raise MethodNotAllowed()
        if not self.public:
            self.authorize(request)

    def identify(self, request: Request) -> None:
        """Who asks. Guessing tokens is bounded by address, whoever is being guessed."""
        try:
            known = bool(request.user and request.user.is_authenticated)
        except Problem as wrong:
            verdict = limits.take(f"guess:{address(request)}", rate=2, burst=60)
            raise (wrong if verdict.allowed else verdict.refusal()) from None
        if not known and not self.public:
            raise Unauthenticated("Send `Authorization: Bearer <token>`.")

    def limit_rate(self, request: Request) -> None:
        if self.is_wait(request):
            return
        bucket = self.scope.caller if self.is_known else f"address:{address(request)}"
        verdict = limits.take(bucket)
        request._request.rate_limit_headers = verdict.headers  # type: ignore[attr-defined]
        if not verdict.allowed:
            raise verdict.refusal()

    def is_wait(self, request: Request) -> bool:
        """Whether this request is a wait, which is not counted."""
        return False

    def enter(self, **kwargs: Any) -> None:
        """Find what the path leads through; raises NotFound for what the caller may not see."""

    def authorize(self, request: Request) -> None:
        """Raises Forbidden unless the caller may do this."""
        if request.method not in SAFE_METHODS:
            self.scope.require_writing()
        if self.needs_admin.get(request.method or "", False):
            self.scope.require_cloud_admin()

    @property
    def is_known(self) -> bool:
        return isinstance(self.request.user, User)

    @cached_property
    def scope(self) -> Scope:
        assert isinstance(self.request.user, User)
        token: Any = self.request.auth
        return Scope(self.request.user, token, request_id=getattr(self.request, "request_id", ""))

    @property
    def actor(self) -> Actor:
        return self.scope.actor

    @property
    def is_dry_run(self) -> bool:
        return bool(self.query({"dry_run": DRY_RUN}).get("dry_run"))

    def context(self) -> dict[str, Any]:
        """What serializers may ask for."""
        return {"request": self.request, "scope": self.scope, "view": self}

    def form(self, partial: bool = False) -> dict[str, Any]:
        """The validated body; raises every fault in it at once."""
        form = self.forms.get(self.request.method or "", Nothing)
        read = form(data=dict(self.request.data), partial=partial, context=self.context())
        read.is_valid(raise_exception=True)
        return dict(read.validated_data)

    def query(self, known: Mapping[str, serializers.Field] | None = None, *, labels: bool = False) -> dict[str, Any]:
        """The validated parameters of the query string; unknown ones are refused."""
        own = self.parameters.get(self.request.method or "", {})
        return pagination.read_parameters(self.request.query_params, {**own, **(known or {})}, labels=labels)

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        http_request = getattr(request, "_request", request)
        for name, value in getattr(http_request, "rate_limit_headers", {}).items():
            response.headers.setdefault(name, value)
        response["Cache-Control"] = "no-store" if response.status_code >= 400 else "private, no-cache"
        return response

    def options(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response(status=204, headers={"Allow": ", ".join(self.allowed_methods)})

    # Rows and how they are shown

    def rows(self) -> QuerySet:
        """The rows that this caller may see, with all that showing them needs."""
        raise NotImplementedError

    def show(self, row: Any) -> dict[str, Any]:
        """One row as the body of an answer."""
        assert self.serializer is not None
        return dict(self.serializer(row, context=self.context()).data)

    def one(self, reference: str, rows: QuerySet | None = None, *, name: str = "name") -> Any:
        """The row that the path means, by id or name."""
        found = by_reference(self.rows() if rows is None else rows, reference, name=name).first()
        if found is None:
            raise NotFound()
        return found

    def path_of(self, row: Any) -> str:
        """Where a new object of this collection can be found."""
        return f"{self.request.path}/{quote(str(row.pk))}"

    def plan(self, row: Any) -> dict[str, Any]:
        """What a dry run of this view shows beside the changes and the quota, e.g. a placement."""
        return {}

    # Changing

    def mutate(self, service: Callable[[], Any], *, status: int = 200, target: str | None = None) -> Response:
        """Run one service in one transaction and answer with what it returns.

        The service returns a row, `Once(row, secret)`, a ready dict, or None (204). An answer with a live `operation`
        is 202. `target` is the path's reference to the object that If-Match speaks about.
        """
        request = self.request
        sent = request.data  # read before the transaction begins: a slow sender holds no lock
        dry = self.is_dry_run
        key = None if dry else transactions.read_key(request.headers.get("Idempotency-Key"))
        mark = ""
        if key is not None:
            query = request.META.get("QUERY_STRING", "")
            mark = transactions.fingerprint(request.method or "", request.path, query, sent)

        def work() -> Response:
            if key is not None and (kept := transactions.reserve_key(self.scope.caller, key, mark)):
                return Response(kept.body, kept.status, headers={**kept.headers, "Idempotent-Replay": "true"})
            if target is not None:
                self.require_match(target)
            before = self._before() if dry else {}
            answer = self._answer(service(), status)
            if dry:
                return self._dry(answer, before)
            if key is not None:
                headers = {name: answer.headers[name] for name in ("Location", "ETag") if name in answer.headers}
                body = answer.data
                transactions.keep_answer(self.scope.caller, key, status=answer.status_code, headers=headers, body=body)
            return answer

        return transactions.run(work, dry=dry)

    def require_match(self, reference: str) -> None:
        """Raises Stale when If-Match names another state of the object than the present one, which is then locked."""
        wanted = self.request.headers.get("If-Match")
        if wanted is None:
            return
        row = self.one(reference)
        type(row)._base_manager.select_for_update(no_key=True).filter(pk=row.pk).first()
        if not matches(wanted, etag(self.show(self.one(reference)))):
            raise Stale("Read it again, and decide again whether to change it.")

    def _answer(self, result: Any, status: int) -> Response:
        if result is None:
            return Response(status=204)
        row, secret = (result.row, result.secret) if isinstance(result, Once) else (result, None)
        if isinstance(row, dict):
            body = row
        else:
            body = self.show(self.rows().get(pk=row.pk))
        headers = {"ETag": etag(body)}
        if status == 201:
            headers["Location"] = self.path_of(row)
        if isinstance(result, Once):
            body = {**body, "secret": secret}
        return Response(body, 202 if body.get("operation") else status, headers=headers)

    def _before(self) -> dict[str, Any]:
        usage = quota.usage(self.scope.project) if self.scope.project else None
        return {"event": transactions.last_event(), "quota": usage}

    def _dry(self, answer: Response, before: Mapping[str, Any]) -> Response:
        plan: dict[str, Any] = transactions.changes_since(before["event"])
        if before["quota"] is not None and Project.objects.filter(pk=self.scope.project_id).exists():
            assert self.scope.project is not None
            plan["quota"] = {"before": before["quota"], "after": quota.usage(self.scope.project)}
        body = dict(answer.data or {})
        if "secret" in body:
            body["secret"] = None
        plan.update(self.plan(body))
        return Response({**body, "plan": plan}, 200 if answer.status_code == 204 else answer.status_code)


class Collection(View):
    """GET lists; a subclass with `create(body)` answers POST."""

    order: ClassVar[tuple[str, ...]] = ("created_at", "id")
    filters: ClassVar[Mapping[str, Filter]] = {}
    has_labels: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if hasattr(cls, "create") and not hasattr(cls, "post"):
            cls.post = Collection._post  # type: ignore[attr-defined]

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        known = {"limit": LIMIT, "cursor": CURSOR, **{name: known.field for name, known in self.filters.items()}}
        values = self.query(known, labels=self.has_labels)
        paging = {name: values.pop(name) for name in pagination.PAGING if name in values}
        found = pagination.page(
            pagination.narrow(self.rows(), self.filters, values), self.order, request=request, **paging
        )
        assert self.serializer is not None
        items = self.serializer(found.rows, many=True, context=self.context()).data
        return Response({"items": items, "next": found.next})

    def _post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.mutate(lambda: self.create(self.form()), status=201)  # type: ignore[attr-defined]


class Item(View):
    """GET shows one; `change(row, body)` answers PATCH, `delete_row(row)` DELETE. The last path argument is `ref`."""

    name: ClassVar[str] = "name"  # the column that a path may use instead of the id

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if hasattr(cls, "change"):
            cls.patch = Item._patch  # type: ignore[attr-defined]
        if hasattr(cls, "remove"):
            cls.delete = Item._delete  # type: ignore[attr-defined]

    def one(self, reference: str, rows: QuerySet | None = None, *, name: str = "") -> Any:
        return super().one(reference, rows, name=name or self.name)

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        self.query()
        return conditional(request, self.show(self.one(kwargs["ref"])))

    def _patch(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        reference = kwargs["ref"]
        return self.mutate(lambda: self.change(self.one(reference), self.form(partial=True)), target=reference)  # type: ignore[attr-defined]

    def _delete(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        reference = kwargs["ref"]
        return self.mutate(lambda: self.remove(self.one(reference)), target=reference)  # type: ignore[attr-defined]


class Verb(Item):
    """POST …/{ref}/verb: a subclass has `act(row, body)`."""

    http_method_names = ("post", "options")  # type: ignore[assignment]

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        reference = kwargs["ref"]
        return self.mutate(lambda: self.act(self.one(reference), self.form()), target=reference)  # type: ignore[attr-defined]


class InProject(View):
    """Mixin of all below /projects/{project}/: enters the project, and asks for the role that the method needs."""

    roles: ClassVar[Mapping[str, str]] = {}  # other than viewer for reading and member for changing

    def enter(self, **kwargs: Any) -> None:
        self.scope.enter(kwargs["project"])

    def authorize(self, request: Request) -> None:
        default = Role.VIEWER if request.method in SAFE_METHODS else Role.MEMBER
        self.scope.require_role(self.roles.get(request.method or "", default))
        super().authorize(request)

    @property
    def project(self) -> Project:
        assert self.scope.project is not None
        return self.scope.project


def address(request: Any) -> str:
    return request.META.get("REMOTE_ADDR") or "unknown"


def etag(body: Any) -> str:
    """The strong ETag of a body as it is shown."""
    text = json.dumps(body, cls=DjangoJSONEncoder, sort_keys=True, separators=(",", ":"))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def matches(header: str, tag: str) -> bool:
    candidates = {candidate.strip() for candidate in header.split(",")}
    return "*" in candidates or tag in candidates


def conditional(request: Request, body: dict[str, Any]) -> Response:
    """A body with its ETag; 304 when the caller has it already."""
    tag = etag(body)
    known = request.headers.get("If-None-Match", "").replace("W/", "")
    if known and matches(known, tag):
        return Response(status=304, headers={"ETag": tag})
    return Response(body, headers={"ETag": tag})


__all__ = ["Body", "Collection", "InProject", "Item", "Once", "Verb", "View", "conditional", "etag"]
