"""/api/v1/projects/{project}/port-forwards"""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from cloud.api.fields import NOT_FOUND, Integer, LabelsField, NameField
from cloud.api.pagination import Filter
from cloud.api.serializers import Body, ReferenceSerializer
from cloud.api.views import Collection, InProject, Item
from network.api.fields import AddressText
from network.api.floating_ips import LeadsTo, floating_ips_of
from network.api.shown import WithWayIn, machine_of
from network.models import Port, PortForward
from network.services import port_forwards
from network.services.port_forwards import LOOPBACK


class ListenSerializer(serializers.Serializer):
    address = serializers.CharField()
    port = serializers.IntegerField()


class ToSerializer(serializers.Serializer):
    port = ReferenceSerializer(help_text="Of the network.")
    instance = ReferenceSerializer(allow_null=True)
    address = serializers.CharField()
    target_port = serializers.IntegerField()


class PortForwardSerializer(WithWayIn):
    """One port of a floating IP, or of 127.0.0.1 on the instance's host, that leads to a port of an instance."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    labels = LabelsField()
    protocol = serializers.ChoiceField(["tcp", "udp"])
    listen = serializers.SerializerMethodField()
    to = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def port_of(self, row: PortForward) -> Port:
        return row.target.port

    @extend_schema_field(ListenSerializer)
    def get_listen(self, forward: PortForward) -> dict[str, Any]:
        address = forward.floating_ip.address if forward.floating_ip else LOOPBACK
        return {"address": address, "port": forward.listen_port}

    @extend_schema_field(ToSerializer)
    def get_to(self, forward: PortForward) -> dict[str, Any]:
        port = forward.target.port
        return {
            "port": {"id": str(port.pk), "name": port.name},
            "instance": machine_of(port),
            "address": forward.target.address,
            "target_port": forward.target_port,
        }


class ListenForm(Body):
    """A floating IP of the project (by address) or 127.0.0.1, and the port: left out, one is chosen there."""

    address = AddressText(required=False)
    port = Integer(required=False, min_value=1, max_value=65535)

    def validate_address(self, address: str) -> Any:
        if address == LOOPBACK:
            return None
        found = floating_ips_of(self.context["scope"]).filter(address=address).first()
        if found is None:
            raise ValidationError(NOT_FOUND)
        return found


class ToForm(LeadsTo):
    """A port of an instance."""

    target_port = Integer(min_value=1, max_value=65535)


class PortForwardChanges(Body):
    name = NameField(required=False)
    labels = LabelsField(required=False)


class PortForwardForm(PortForwardChanges):
    protocol = serializers.ChoiceField(["tcp", "udp"], required=False)
    listen = ListenForm(required=False)
    to = ToForm()


class PortForwardView(InProject):
    serializer = PortForwardSerializer
    forms = {"POST": PortForwardForm, "PATCH": PortForwardChanges}

    def rows(self) -> QuerySet[PortForward]:
        own = PortForward.objects.filter(project=self.project)
        related = own.select_related("project", "floating_ip", "target__port__network")
        return related.prefetch_related("target__port__network__on_hosts")


class PortForwards(PortForwardView, Collection):
    filters = {
        "name": Filter(serializers.CharField()),
        "instance": Filter(serializers.UUIDField(help_text="Its id."), "target__port__holder_id"),
    }

    def create(self, body: dict[str, Any]) -> PortForward:
        """On 127.0.0.1 it can be reached from the instance's host only: for a cloud on one machine."""
        listen = body.pop("listen", {})
        leads = {"floating_ip": listen.get("address"), "listen_port": listen.get("port")}
        return port_forwards.create(actor=self.actor, **leads, **body.pop("to"), **body)


class OnePortForward(PortForwardView, Item):
    def change(self, forward: PortForward, body: dict[str, Any]) -> PortForward:
        return port_forwards.update(forward=forward, actor=self.actor, changes=body)

    def remove(self, forward: PortForward) -> None:
        """Connections through it end."""
        port_forwards.delete(forward=forward, actor=self.actor)


urlpatterns = [
    path("projects/<str:project>/port-forwards", PortForwards.as_view()),
    path("projects/<str:project>/port-forwards/<str:ref>", OnePortForward.as_view()),
]
