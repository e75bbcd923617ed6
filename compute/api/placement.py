"""/api/v1/projects/{project}/instances/{instance}/placement"""

from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.views import Item
from compute.api.instances import InstanceView, shown_decision
from compute.placement.explain import explain
from compute.placement.rules import Wish


class PlacementSerializer(serializers.Serializer):
    """Where the instance is and why, and how every rule stands now. Hosts are named to admins of the cloud only."""

    decision = serializers.DictField(allow_null=True)
    explanation = serializers.DictField()


class PlacementView(InstanceView, Item):
    """Why it is where it is, or waits; and what each rule says of the hosts now."""

    serializer = PlacementSerializer  # type: ignore[assignment]

    @extend_schema(operation_id="instance_placement")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        self.query()
        instance = self.one(kwargs["ref"])
        explanation = explain(Wish.of(instance))
        is_admin = self.scope.is_cloud_admin
        return Response(
            {
                "decision": shown_decision(instance.placement, is_admin),
                "explanation": explanation.for_admin() if is_admin else explanation.for_tenant(),
            }
        )


urlpatterns = [
    path("projects/<str:project>/instances/<str:ref>/placement", PlacementView.as_view()),
]
