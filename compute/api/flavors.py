"""/api/v1/flavors: everybody reads; admins of the cloud change."""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.fields import Flag, Integer, LabelsField, NameField
from cloud.api.pagination import Filter
from cloud.api.serializers import Body
from cloud.api.views import Collection, Item, View
from compute import flavors
from compute.models import Flavor


@extend_schema_field({"type": ["string", "number"], "pattern": r"^[0-9]{1,6}(\.[0-9]{1,4})?$", "minimum": 0})
class PriceField(serializers.DecimalField):
    """Exact: given back as text, taken as text or number."""


class FlavorSerializer(Body):
    """A size of instance, and what an hour of it costs."""

    id = serializers.UUIDField(read_only=True)
    name = NameField()
    labels = LabelsField(required=False)
    vcpus = Integer(min_value=1, max_value=1024)
    memory_mib = Integer(min_value=64, max_value=64 * 1024 * 1024)
    disk_gib = Integer(min_value=1, max_value=1024 * 1024)
    network_mbps = Integer(
        min_value=1, max_value=1_000_000, allow_null=True, required=False,
        help_text="Mbit/s of each NIC, each way; null: no limit. A change holds for its instances at once.",
    )  # fmt: skip
    price_per_hour = PriceField(max_digits=10, decimal_places=4, min_value=0, required=False)
    enabled = Flag(required=False)
    created_at = serializers.DateTimeField(read_only=True)


class FlavorView(View):
    serializer = FlavorSerializer
    forms = {"POST": FlavorSerializer, "PATCH": FlavorSerializer}
    needs_admin = {"POST": True, "PATCH": True, "DELETE": True}

    def rows(self) -> QuerySet[Flavor]:
        return Flavor.objects.all()


class Flavors(FlavorView, Collection):
    order = ("memory_mib", "vcpus", "name")
    filters = {"name": Filter(serializers.CharField()), "enabled": Filter(serializers.BooleanField())}

    def create(self, body: dict[str, Any]) -> Flavor:
        return flavors.create(actor=self.actor, size=body)  # type: ignore[arg-type]


class OneFlavor(FlavorView, Item):
    def change(self, flavor: Flavor, body: dict[str, Any]) -> Flavor:
        """For instances to come: those that there are keep their size and price. `network_mbps` changes for all."""
        return flavors.update(flavor=flavor, actor=self.actor, changes=body)  # type: ignore[arg-type]

    def remove(self, flavor: Flavor) -> None:
        """Refused while instances have it; `enabled: false` takes it out of sight."""
        flavors.delete(flavor=flavor, actor=self.actor)


urlpatterns = [
    path("flavors", Flavors.as_view()),
    path("flavors/<str:ref>", OneFlavor.as_view()),
]
