"""The base of every view: who asks, how often, for what project, with which parameters and body."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cloud.api import limits, pagination
from cloud.api.addresses import address, counted_as
from cloud.api.fields import find
from cloud.api.parsers import accept_chunks
from cloud.api.scope import Scope
from cloud.api.serializers import Nothing
from cloud.events.services import Actor
from cloud.problems import MethodNotAllowed, NotFound, Problem, Unauthenticated
from cloud.tenancy.models import User

DRY_RUN = serializers.BooleanField(help_text="Answer as if, with a `plan`; change nothing.")


class OnlyJSON(BaseContentNegotiation):
    """Answers are JSON whatever Accept says; bodies are parsed by their media type."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == media_type), None)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> tuple[Any, str]:
        return renderers[0], renderers[0].media_type


class BaseView(APIView):
    """Authenticates, limits the rate, authorises, and reads what was sent."""

    content_negotiation_class = OnlyJSON
    parameters: ClassVar[Mapping[str, Mapping[str, serializers.Field]]] = {}  # of the query string, by method
    forms: ClassVar[Mapping[str, type[serializers.Serializer]]] = {}  # bodies, by method
    serializer: ClassVar[type[serializers.Serializer] | None] = None  # of answers
    created: ClassVar[type[serializers.Serializer] | None] = None  # of answers to POST, where they show more
    summaries: ClassVar[Mapping[str, str]] = {}  # what methods do, where their path doesn't tell
    descriptions: ClassVar[Mapping[str, str]] = {}  # what methods do, where no docstring of the view says it
    needs_admin: ClassVar[Mapping[str, bool]] = {}  # methods that only admins of the cloud may use
    successes: ClassVar[Mapping[str, int]] = {}  # status codes of successes other than 200, by method
    streams: ClassVar[bool] = False  # whether GET may also be answered by server-sent events
    brings_file: ClassVar[bool] = False  # whether GET is answered by a file, or a part of it
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
            verdict = limits.take(f"guess:{counted_as(address(request))}", rate=2, burst=60)
            raise (wrong if verdict.allowed else verdict.refusal()) from None
        if not known and not self.public:
            self.limit_rate(request)
            raise Unauthenticated("Send `Authorization: Bearer <token>`.")

    def limit_rate(self, request: Request) -> None:
        if not self.is_wait(request):
            self.count(request)

    def count(self, request: Request) -> None:
        """Take one request out of the caller's bucket; raises RateLimited when it is empty.

        A user has one, with however many tokens and sessions.
        """
        bucket = f"user:{self.scope.user.pk}" if self.is_known else f"address:{counted_as(address(request))}"
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
        if self.needs_admin.get("GET" if request.method == "HEAD" else request.method or "", False):
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
    def is_dry(self) -> bool:
        """Whether nothing of this is to be kept."""
        return self.request.method not in SAFE_METHODS and bool(self.query().get("dry_run"))

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
        """The validated parameters of the query string, `dry_run` among those of changes; unknown ones are refused."""
        method = "GET" if self.request.method == "HEAD" else self.request.method or ""
        every = {**self.parameters.get(method, {}), **(known or {})}
        if method not in SAFE_METHODS:
            every["dry_run"] = DRY_RUN
        return pagination.read_parameters(self.request.query_params, every, labels=labels)

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        http_request = getattr(request, "_request", request)
        for name, value in getattr(http_request, "rate_limit_headers", {}).items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "private, no-cache" if response.status_code < 400 else "no-store")
        return response

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        return Response(status=204, headers={"Allow": ", ".join(self.allowed_methods)})

    def rows(self) -> QuerySet:
        """The rows that this caller may see, with all that showing them needs."""
        raise NotImplementedError

    def show(self, row: Any) -> dict[str, Any]:
        """One row as the body of an answer."""
        assert self.serializer is not None
        return dict(self.serializer(row, context=self.context()).data)

    def one(self, reference: str, *, name: str = "name") -> Any:
        """The row that the path means, by id or name."""
        found = find(self.rows(), reference, name=name).first()
        if found is None:
            raise NotFound()
        return found
