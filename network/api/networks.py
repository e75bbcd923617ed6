"""/api/v1/projects/{project}/networks"""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from cloud.api.fields import Integer, LabelsField, NameField
from cloud.api.pagination import Filter
from cloud.api.serializers import Body
from cloud.api.views import Collection, InProject, Item
from network.api.fields import CASCADE
from network.api.shown import SubnetReferenceSerializer, WithStatus
from network.models import Network
from network.models.networks import MAX_MTU, MIN_MTU
from network.services import networks
from network.status import Status, of_network


class NetworkSerializer(WithStatus):
    """An isolated segment: its machines reach each other as far as security groups let them."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    labels = LabelsField()
    mtu = serializers.IntegerField(help_text="Bytes.")
    vni = serializers.IntegerField(help_text="Its number in the cloud.")
    domain = serializers.CharField(help_text="Where its machines have names.")
    subnets = SubnetReferenceSerializer(many=True)
    created_at = serializers.DateTimeField()

    def find_status(self, row: Network) -> Status:
        return of_network(row, carried=self.carried)


class NetworkForm(Body):
    name = NameField()
    labels = LabelsField(required=False)
    mtu = Integer(required=False, min_value=MIN_MTU, max_value=MAX_MTU)


class NetworkView(InProject):
    serializer = NetworkSerializer
    forms = {"POST": NetworkForm, "PATCH": NetworkForm}
    parameters = {"DELETE": {"cascade": CASCADE}}

    def rows(self) -> QuerySet[Network]:
        return (
            Network.objects.filter(project=self.project)
            .select_related("project")
            .prefetch_related("subnets", "on_hosts")
        )


class Networks(NetworkView, Collection):
    filters = {"name": Filter(serializers.CharField())}

    def create(self, body: dict[str, Any]) -> Network:
        """It has no subnet yet: nothing on it gets an address before it has one."""
        return networks.create(project=self.project, actor=self.actor, **body)


class OneNetwork(NetworkView, Item):
    def change(self, network: Network, body: dict[str, Any]) -> Network:
        return networks.update(network=network, actor=self.actor, changes=body)

    def remove(self, network: Network) -> None:
        """Refused while something is on it; `cascade` deletes that, too, but never instances."""
        cascade = bool(self.query().get("cascade"))
        networks.delete(network=network, actor=self.actor, cascade=cascade)


urlpatterns = [
    path("projects/<str:project>/networks", Networks.as_view()),
    path("projects/<str:project>/networks/<str:ref>", OneNetwork.as_view()),
]
