"""/api/v1/projects/{project}/subnets"""

from collections.abc import Iterator
from typing import Any

from django.db.models import Count, QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.fields import Flag, LabelsField, NameField, ReferenceField
from cloud.api.pagination import Filter
from cloud.api.scope import Scope
from cloud.api.serializers import ReferenceSerializer
from cloud.api.views import Collection, InProject, Item
from cloud.problems import Fault
from network import addressing
from network.api.fields import CASCADE, AddressText, CidrText, RangeForm, RouteForm, WholeBody, list_of
from network.api.shown import RangeSerializer, RouteSerializer
from network.models import Network, Subnet
from network.services import subnets


def networks_of(scope: Scope) -> QuerySet[Network]:
    return Network.objects.filter(project_id=scope.project_id)


def subnets_of(scope: Scope) -> QuerySet[Subnet]:
    return Subnet.objects.filter(project_id=scope.project_id).select_related("network", "project")


class AddressUseSerializer(serializers.Serializer):
    """Of the addresses that are given out by themselves."""

    total = serializers.IntegerField()
    used = serializers.IntegerField(help_text="All that are taken, also outside of the allocation ranges.")


class SubnetSerializer(serializers.Serializer):
    """A range of addresses on a network."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    labels = LabelsField()
    network = ReferenceSerializer()
    family = serializers.IntegerField(help_text="4 or 6.")
    cidr = serializers.CharField()
    gateway = serializers.CharField(allow_null=True)
    allocation_ranges = RangeSerializer(many=True)
    dns = serializers.ListField(child=serializers.CharField(), help_text="Empty: the network's own server.")
    routes = RouteSerializer(many=True)
    dhcp = serializers.BooleanField()
    addresses = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    @extend_schema_field(AddressUseSerializer)
    def get_addresses(self, subnet: Any) -> dict[str, int]:
        return {"total": addressing.size(subnet.allocation_ranges), "used": subnet.used}


class SubnetChanges(WholeBody):
    name = NameField()
    labels = LabelsField(required=False)
    allocation_ranges = list_of(RangeForm, addressing.MAX_RANGES)
    dns = serializers.ListField(child=AddressText(), required=False, max_length=addressing.MAX_DNS)
    routes = list_of(RouteForm, addressing.MAX_ROUTES)
    dhcp = Flag(required=False)

    def faults(self, values: dict[str, Any]) -> Iterator[Fault]:
        """Without a range nothing can be told: the service compares with the subnet's."""
        return addressing.faults_of_plan(values)


class SubnetForm(SubnetChanges):
    """Only name, network and range have to be given."""

    network = ReferenceField(networks_of)
    cidr = CidrText()
    gateway = AddressText(
        required=False, allow_null=True, help_text="Left out: the first address. Null: there is no way out."
    )


class SubnetView(InProject):
    serializer = SubnetSerializer
    forms = {"POST": SubnetForm, "PATCH": SubnetChanges}
    parameters = {"DELETE": {"cascade": CASCADE}}

    def rows(self) -> QuerySet[Subnet]:
        return subnets_of(self.scope).annotate(used=Count("addresses"))


class Subnets(SubnetView, Collection):
    filters = {
        "name": Filter(serializers.CharField()),
        "network": Filter(serializers.CharField(), "network__name"),
        "cidr": Filter(CidrText()),
    }

    def create(self, body: dict[str, Any]) -> Subnet:
        """Refused when it overlaps another one of its network."""
        return subnets.create(actor=self.actor, **body)


class OneSubnet(SubnetView, Item):
    def change(self, subnet: Subnet, body: dict[str, Any]) -> Subnet:
        """Addresses that are given out stay what they are."""
        return subnets.update(subnet=subnet, actor=self.actor, changes=body)

    def remove(self, subnet: Subnet) -> None:
        """Refused while addresses of it are used; `cascade` deletes ports that nothing is plugged into."""
        subnets.delete(subnet=subnet, actor=self.actor, cascade=bool(self.query().get("cascade")))


urlpatterns = [
    path("projects/<str:project>/subnets", Subnets.as_view()),
    path("projects/<str:project>/subnets/<str:ref>", OneSubnet.as_view()),
]
