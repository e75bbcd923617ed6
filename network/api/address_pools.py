"""/api/v1/address-pools: everybody reads; admins of the cloud change."""

from typing import Any

from django.db.models import Count, QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.fields import LabelsField, NameField
from cloud.api.pagination import Filter
from cloud.api.views import Collection, Item, View
from network import addressing
from network.api.fields import CidrText, RangeForm, WholeBody, list_of
from network.api.shown import RangeSerializer
from network.api.subnets import AddressUseSerializer
from network.models import AddressPool
from network.services import address_pools


class AddressPoolSerializer(serializers.Serializer):
    """Addresses outside of the cloud from which floating IPs are taken."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    labels = LabelsField()
    cidr = serializers.CharField()
    allocation_ranges = RangeSerializer(many=True)
    addresses = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    @extend_schema_field(AddressUseSerializer)
    def get_addresses(self, pool: Any) -> dict[str, int]:
        return {"total": addressing.size(pool.allocation_ranges), "used": pool.used}


class AddressPoolChanges(WholeBody):
    name = NameField()
    labels = LabelsField(required=False)
    allocation_ranges = list_of(RangeForm, addressing.MAX_RANGES)

    def faults(self, values: dict[str, Any]) -> Any:
        return addressing.faults_of_plan({**values, "gateway": None})


class AddressPoolForm(AddressPoolChanges):
    """All of a range is given out, unless allocation ranges say which part."""

    cidr = CidrText()


class AddressPoolView(View):
    serializer = AddressPoolSerializer
    forms = {"POST": AddressPoolForm, "PATCH": AddressPoolChanges}
    needs_admin = {"POST": True, "PATCH": True, "DELETE": True}

    def rows(self) -> QuerySet[AddressPool]:
        return AddressPool.objects.annotate(used=Count("floating_ips"))


class AddressPools(AddressPoolView, Collection):
    filters = {"name": Filter(serializers.CharField())}

    def create(self, body: dict[str, Any]) -> AddressPool:
        return address_pools.create(actor=self.actor, **body)


class OneAddressPool(AddressPoolView, Item):
    def change(self, pool: AddressPool, body: dict[str, Any]) -> AddressPool:
        """Addresses that projects hold stay theirs."""
        return address_pools.update(pool=pool, actor=self.actor, changes=body)

    def remove(self, pool: AddressPool) -> None:
        """Refused while projects hold addresses of it."""
        address_pools.delete(pool=pool, actor=self.actor)


urlpatterns = [
    path("address-pools", AddressPools.as_view()),
    path("address-pools/<str:ref>", OneAddressPool.as_view()),
]
