"""/api/v1/projects/{project}/quota-requests: asking for more; /api/v1/quota-requests: the inbox."""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.fields import MAX_INTEGER, Integer, Text, as_uuid
from cloud.api.pagination import Filter
from cloud.api.serializers import Body, ReferenceSerializer
from cloud.api.views import Collection, InProject, Item, Verb, View
from cloud.problems import NotFound
from cloud.tenancy import quota_requests
from cloud.tenancy.api.projects import of_every_kind
from cloud.tenancy.models import QuotaRequest

MAX_NOTE = 1000


class QuotaRequestSerializer(serializers.Serializer):
    """Larger limits that a project asks for, and what became of it."""

    id = serializers.UUIDField()
    project = ReferenceSerializer()
    limits = serializers.DictField(child=serializers.IntegerField(), help_text="Kind → the limit asked for.")
    before = serializers.DictField(child=serializers.IntegerField(), help_text="Kind → the limit as it was then.")
    reason = serializers.CharField()
    requested_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    state = serializers.ChoiceField(QuotaRequest.State.choices)
    note = serializers.CharField(help_text="What the admin answers.")
    decided_by = serializers.SerializerMethodField()
    decided_at = serializers.DateTimeField(allow_null=True)

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_decided_by(self, request: QuotaRequest) -> str | None:
        return request.decided_by or None


class Reasoned(Body):
    reason = Text(required=False, allow_blank=True, max_length=MAX_NOTE)


QuotaRequestForm: Any = of_every_kind(
    "QuotaRequestForm",
    lambda: Integer(required=False, max_value=MAX_INTEGER),
    Reasoned,
    "The limits that are wanted, by kind, and why.",
)


class ApproveForm(Body):
    note = Text(required=False, allow_blank=True, max_length=MAX_NOTE)


class DeclineForm(Body):
    note = Text(max_length=MAX_NOTE, help_text="Why, for those who asked.")


class OfRequests(View):
    serializer = QuotaRequestSerializer

    def rows(self) -> QuerySet[QuotaRequest]:
        return QuotaRequest.objects.select_related("project")

    def one(self, reference: str, *, name: str = "") -> QuotaRequest:
        ident = as_uuid(reference)
        found = self.rows().filter(pk=ident).first() if ident else None
        if found is None:
            raise NotFound()
        return found


class Listed(OfRequests, Collection):
    """The latest first."""

    order = ("-created_at", "-id")
    has_labels = False
    filters = {"state": Filter(serializers.ChoiceField(QuotaRequest.State.choices))}


class OfProject(InProject, OfRequests):
    def rows(self) -> QuerySet[QuotaRequest]:
        return super().rows().filter(project=self.project)


class ProjectQuotaRequests(OfProject, Listed):
    forms = {"POST": QuotaRequestForm}

    def create(self, body: dict[str, Any]) -> QuotaRequest:
        """Asks the admins of the cloud for higher limits, and says why."""
        reason = body.pop("reason", "")
        return quota_requests.ask(project=self.project, actor=self.actor, limits=body, reason=reason)


class OneProjectQuotaRequest(OfProject, Item):
    pass


class Withdraw(OfProject, Verb):
    def act(self, request: QuotaRequest, body: dict[str, Any]) -> QuotaRequest:
        """For one that nobody has decided yet."""
        return quota_requests.withdraw(request=request, actor=self.actor)


class QuotaRequests(Listed):
    needs_admin = {"GET": True}


class OneQuotaRequest(OfRequests, Item):
    needs_admin = {"GET": True}


class Approve(OfRequests, Verb):
    needs_admin = {"POST": True}
    forms = {"POST": ApproveForm}

    def act(self, request: QuotaRequest, body: dict[str, Any]) -> QuotaRequest:
        """The limits are as was asked, or as the body says."""
        return quota_requests.approve(request=request, actor=self.actor, **body)


class Decline(OfRequests, Verb):
    needs_admin = {"POST": True}
    forms = {"POST": DeclineForm}

    def act(self, request: QuotaRequest, body: dict[str, Any]) -> QuotaRequest:
        return quota_requests.decline(request=request, actor=self.actor, **body)


urlpatterns = [
    path("projects/<str:project>/quota-requests", ProjectQuotaRequests.as_view()),
    path("projects/<str:project>/quota-requests/<str:ref>", OneProjectQuotaRequest.as_view()),
    path("projects/<str:project>/quota-requests/<str:ref>/withdraw", Withdraw.as_view()),
    path("quota-requests", QuotaRequests.as_view()),
    path("quota-requests/<str:ref>", OneQuotaRequest.as_view()),
    path("quota-requests/<str:ref>/approve", Approve.as_view()),
    path("quota-requests/<str:ref>/decline", Decline.as_view()),
]
