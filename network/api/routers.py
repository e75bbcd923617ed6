"""/api/v1/projects/{project}/routers"""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.fields import Flag, LabelsField, NameField, ReferenceField
from cloud.api.pagination import Filter
from cloud.api.serializers import Body, ReferenceSerializer
from cloud.api.views import Collection, InProject, Item, Verb
from network import addressing
from network.api.fields import CASCADE, AddressText, RouteForm, list_of
from network.api.shown import RouteSerializer, SubnetReferenceSerializer, WithStatus
from network.api.subnets import subnets_of
from network.models import Address, Router
from network.services import routers
from network.status import Status, of_network


class LegSerializer(serializers.Serializer):
    """Where a router is on a subnet."""

    subnet = SubnetReferenceSerializer()
    address = serializers.CharField()
    port = ReferenceSerializer()


class RouterSerializer(WithStatus):
    """Joins subnets, and leads out of the cloud."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    labels = LabelsField()
    external = serializers.BooleanField(help_text="Whether it has a way out.")
    snat = serializers.BooleanField(help_text="Whether machines without a floating IP go out by the host's address.")
    routes = RouteSerializer(many=True)
    subnets = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def find_status(self, row: Router) -> Status:
        return of_network(row, carried=self.carried)

    @extend_schema_field(LegSerializer(many=True))
    def get_subnets(self, router: Router) -> Any:
        legs: dict[Any, list[Address]] = self.kept("legs", self.context["view"].legs)
        return LegSerializer(legs.get(router.pk, []), many=True).data


class RouterForm(Body):
    name = NameField()
    labels = LabelsField(required=False)
    external = Flag(required=False)
    snat = Flag(required=False)


class RouterChanges(RouterForm):
    routes = list_of(RouteForm, addressing.MAX_ROUTES)


class AttachForm(Body):
    """Without an address it becomes the subnet's gateway, or takes any address if there is one already."""

    subnet = ReferenceField(subnets_of)
    address = AddressText(required=False)


class DetachForm(Body):
    subnet = ReferenceField(subnets_of)


class RouterView(InProject):
    serializer = RouterSerializer
    forms = {"POST": RouterForm, "PATCH": RouterChanges}
    parameters = {"DELETE": {"cascade": CASCADE}}

    def rows(self) -> QuerySet[Router]:
        return Router.objects.filter(project=self.project).select_related("project").prefetch_related("on_hosts")

    def legs(self) -> dict[Any, list[Address]]:
        """The legs of the project's routers, by router: one query for a whole page."""
        found: dict[Any, list[Address]] = {}
        for leg in routers.legs_of(self.project):
            found.setdefault(leg.port.holder_id, []).append(leg)
        return found


class Routers(RouterView, Collection):
    filters = {"name": Filter(serializers.CharField()), "external": Filter(serializers.BooleanField())}

    def create(self, body: dict[str, Any]) -> Router:
        """It joins nothing yet."""
        return routers.create(project=self.project, actor=self.actor, **body)


class OneRouter(RouterView, Item):
    def change(self, router: Router, body: dict[str, Any]) -> Router:
        return routers.update(router=router, actor=self.actor, changes=body)

    def remove(self, router: Router) -> None:
        """Refused while it joins subnets; `cascade` parts it from them first."""
        routers.delete(router=router, actor=self.actor, cascade=bool(self.query().get("cascade")))


class AttachSubnet(RouterView, Verb):
    """Join a subnet. Refused for one that overlaps another that is joined."""

    forms = {"POST": AttachForm}
    summaries = {"POST": "Attach a subnet to a router"}

    def act(self, router: Router, body: dict[str, Any]) -> Router:
        return routers.attach(router=router, actor=self.actor, **body)


class DetachSubnet(RouterView, Verb):
    """Part from a subnet. Refused while a floating IP, a port forward or a static route needs it."""

    forms = {"POST": DetachForm}
    summaries = {"POST": "Detach a subnet from a router"}

    def act(self, router: Router, body: dict[str, Any]) -> Router:
        return routers.detach(router=router, actor=self.actor, **body)


urlpatterns = [
    path("projects/<str:project>/routers", Routers.as_view()),
    path("projects/<str:project>/routers/<str:ref>", OneRouter.as_view()),
    path("projects/<str:project>/routers/<str:ref>/attach-subnet", AttachSubnet.as_view()),
    path("projects/<str:project>/routers/<str:ref>/detach-subnet", DetachSubnet.as_view()),
]
