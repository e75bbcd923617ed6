"""/api/v1/capacity: what is left in the cloud, and how many more of each flavor fit."""

from typing import Any

from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.serializers import ReferenceSerializer
from cloud.api.views import View
from compute.placement import capacity


class HostCountSerializer(serializers.Serializer):
    all = serializers.IntegerField()
    usable = serializers.IntegerField(help_text="In service, and heard from.")


class AmountSerializer(serializers.Serializer):
    """Of all hosts together."""

    whole = serializers.IntegerField(help_text="vCPUs as they are sold.")
    used = serializers.IntegerField()
    free = serializers.IntegerField(help_text="On hosts that take new instances.")
    out_of_service = serializers.IntegerField(help_text="Free on the others.")


class VcpuAmountSerializer(AmountSerializer):
    real = serializers.IntegerField(help_text="Processors of the machines.")


class FitSerializer(serializers.Serializer):
    """With images of one kind."""

    architecture = serializers.CharField(source="kind.architecture")
    hypervisors = serializers.ListField(child=serializers.CharField(), source="kind.hypervisors")
    count = serializers.IntegerField(help_text="More instances that fit, really placed and not summed.")
    hosts = serializers.IntegerField(help_text="Hosts that they would be on.")


class FlavorFitsSerializer(serializers.Serializer):
    flavor = ReferenceSerializer()
    fits = FitSerializer(many=True)


class CapacitySerializer(serializers.Serializer):
    """What is left in the cloud."""

    hosts = HostCountSerializer()
    vcpus = VcpuAmountSerializer()
    memory_mib = AmountSerializer()
    disk_gib = AmountSerializer()
    flavors = FlavorFitsSerializer(many=True)


class Capacity(View):
    """What is left, and how many more of each flavor fit: really placed, not summed."""

    serializer = CapacitySerializer
    needs_admin = {"GET": True}

    def get(self, request: Request) -> Response:
        self.query()
        flavors: list[Any] = [{"flavor": flavor, "fits": fits} for flavor, fits in capacity.fits()]
        return Response(self.show({**capacity.totals(), "flavors": flavors}))


urlpatterns = [path("capacity", Capacity.as_view())]
