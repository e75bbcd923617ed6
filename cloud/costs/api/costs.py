"""/api/v1/projects/{project}/cost"""

import re
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.fields import LabelsField
from cloud.api.views import InProject
from cloud.costs import sums

MONTH = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])")


class MonthField(serializers.CharField):
    def to_internal_value(self, data: Any) -> Any:
        found = MONTH.fullmatch(str(data))
        if not found:
            raise serializers.ValidationError("Write a month as 2026-11.")
        return datetime(int(found[1]), int(found[2]), 1, tzinfo=UTC)


class Money(serializers.DecimalField):
    def __init__(self, **options: Any):
        super().__init__(max_digits=20, decimal_places=4, **options)


class CostItemSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    type = serializers.CharField(help_text="Of resource: `instance`, …")
    size = serializers.CharField(help_text="Such as the name of its flavor.")
    labels = LabelsField()
    price_per_hour = Money()
    lives = serializers.BooleanField(help_text="Whether it still holds its place.")
    hours = Money(help_text="How long it has held its place in this month.")
    cost = Money()


class CostSerializer(serializers.Serializer):
    """What a project's resources cost in a month (UTC), and will have cost at its end when nothing changes."""

    month = serializers.CharField()
    currency = serializers.CharField(help_text="Of all sums.")
    so_far = Money()
    at_month_end = Money()
    per_hour = Money(help_text="What everything that holds a place costs now.")
    count = serializers.IntegerField(help_text="Resources that cost something in it.")
    items = CostItemSerializer(many=True, help_text=f"The most expensive {sums.MAX_ITEMS} of them.")


class CostView(InProject):
    """What a month has cost, and will have at its end when nothing changes."""

    serializer = CostSerializer
    parameters = {
        "GET": {
            "month": MonthField(help_text="As 2026-11; this one, when left out."),
            "type": serializers.CharField(max_length=20, help_text="Only resources of this type, such as `instance`."),
            "resource": serializers.CharField(max_length=63, help_text="Only of this one, by id or name."),
            "instance": serializers.CharField(max_length=63, help_text="Only of this instance, by id or name."),
        }
    }

    @extend_schema(operation_id="project_cost")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        asked = self.query()
        if "instance" in asked:
            asked |= {"type": "instance", "resource": asked.pop("instance")}
        found = sums.of(
            self.project,
            month=asked.get("month"),
            resource_type=asked.get("type", ""),
            resource=asked.get("resource", ""),
            items=sums.MAX_ITEMS,
        )
        shown = CostSerializer({**vars(found), "month": f"{found.month:%Y-%m}", "currency": settings.CURRENCY})
        return Response(shown.data)
