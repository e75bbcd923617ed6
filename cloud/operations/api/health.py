"""/api/v1/health: what is broken, since when, what to do; /api/v1/checks: the invariants, and putting them right."""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.fields import as_uuid
from cloud.api.health import dependencies
from cloud.api.views import Collection, Item, Verb, View
from cloud.operations import checks
from cloud.operations.invariants import number_of
from cloud.operations.models import Check
from cloud.operations.troubles import troubles
from cloud.problems import NotFound


class BreachSerializer(serializers.Serializer):
    """One thing that is not as it must be."""

    words = serializers.CharField()
    subject = serializers.CharField(help_text="The id of what is concerned.")
    since = serializers.DateTimeField(help_text="When it was first found.")
    repairable = serializers.BooleanField()
    advice = serializers.CharField(default="", help_text="What a person can do, where the cloud can do nothing itself.")


class CheckSerializer(serializers.Serializer):
    """A consistency check, and what it found last."""

    id = serializers.UUIDField()
    code = serializers.CharField()
    promise = serializers.CharField()
    checked_at = serializers.DateTimeField()
    seconds = serializers.FloatField()
    problem = serializers.CharField(help_text="Why it could not be checked.")
    count = serializers.IntegerField(help_text="Breaches in all.")
    breaches = BreachSerializer(many=True, help_text="The first of them.")
    repair_requested_at = serializers.DateTimeField(allow_null=True)
    repair_requested_by = serializers.CharField()
    repaired_at = serializers.DateTimeField(allow_null=True)


class DependencySerializer(serializers.Serializer):
    name = serializers.CharField()
    ok = serializers.BooleanField()
    detail = serializers.CharField()


class CaseSerializer(serializers.Serializer):
    """One thing that is wrong."""

    type = serializers.CharField()
    id = serializers.CharField()
    name = serializers.CharField()
    project = serializers.CharField(help_text="Its name; empty for what is the cloud's.")
    words = serializers.CharField()
    since = serializers.DateTimeField(allow_null=True)


class TroubleSerializer(serializers.Serializer):
    """Things that are wrong in the same way."""

    title = serializers.CharField()
    advice = serializers.CharField()
    count = serializers.IntegerField()
    cases = CaseSerializer(many=True, help_text="The first of them.")


class HealthSerializer(serializers.Serializer):
    """What the cloud depends on, what is wrong in it, and which consistency checks failed."""

    dependencies = DependencySerializer(many=True)
    troubles = TroubleSerializer(many=True)
    broken = CheckSerializer(many=True)


def health() -> dict[str, Any]:
    broken = Check.objects.exclude(count=0, problem="").order_by("name")
    return {
        "dependencies": [{"name": name, **found} for name, found in dependencies().items()],
        "troubles": troubles(),
        "broken": sorted(broken, key=lambda check: number_of(check.code)),
    }


class Health(View):
    """What is broken, since when, and what to do about it."""

    serializer = HealthSerializer
    needs_admin = {"GET": True}

    def get(self, request: Request) -> Response:
        self.query()
        return Response(self.show(health()))


class CheckView(View):
    serializer = CheckSerializer
    needs_admin = {"GET": True, "POST": True}

    def rows(self) -> QuerySet[Check]:
        return Check.objects.all()

    def one(self, reference: str, *, name: str = "") -> Check:
        ident = as_uuid(reference)
        found = self.rows().filter(pk=ident).first() if ident else None
        if found is None:
            raise NotFound()
        return found


class Checks(CheckView, Collection):
    """What is watched over in the background, ordered by code."""

    order = ("code", "name")
    has_labels = False


class OneCheck(CheckView, Item):
    """What it found last, and what it has mended."""


class Repair(CheckView, Verb):
    """Asks a control worker to put right what can be put right, soon."""

    def act(self, check: Check, body: dict[str, Any]) -> Check:
        return checks.request_repair(check=check, actor=self.actor)


urlpatterns = [
    path("health", Health.as_view()),
    path("checks", Checks.as_view()),
    path("checks/<str:ref>", OneCheck.as_view()),
    path("checks/<str:ref>/repair", Repair.as_view()),
]
