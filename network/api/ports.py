"""/api/v1/projects/{project}/ports"""

import re
from typing import Any

from django.db.models import Prefetch, QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from cloud.api.fields import Flag, LabelsField, NameField, ReferenceField, ReferencesField, Text
from cloud.api.pagination import Filter
from cloud.api.scope import Scope
from cloud.api.serializers import Body, ReferenceSerializer
from cloud.api.views import Collection, InProject, Item
from network import addressing
from network.api.fields import CASCADE, AddressText, list_of
from network.api.shown import HolderSerializer, WithStatus, holder_of, machine_of
from network.api.subnets import networks_of, subnets_of
from network.default_routes import with_default_routes
from network.models import Address, Port, SecurityGroup
from network.services import ports
from network.services.ports import MAX_ADDRESSES, MAX_GROUPS, MAX_PAIRS, Wanted
from network.status import Status, of_port

MAC_FORM = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def groups_of(scope: Scope) -> QuerySet[SecurityGroup]:
    return SecurityGroup.objects.filter(project_id=scope.project_id)


def ports_of(scope: Scope) -> QuerySet[Port]:
    own = Port.objects.filter(project_id=scope.project_id).select_related("network", "project")
    addresses = Prefetch("addresses", with_default_routes(Address.objects.select_related("subnet")))
    return own.prefetch_related(addresses, "security_groups", "network__on_hosts")


class PortAddressSerializer(serializers.Serializer):
    address = serializers.CharField()
    family = serializers.IntegerField(source="subnet.family")
    subnet = ReferenceSerializer()


class PairSerializer(serializers.Serializer):
    address = serializers.CharField()
    mac = serializers.CharField(allow_null=True, default=None, help_text="Null: the port's own.")


class PortSerializer(WithStatus):
    """A place on a network, with its addresses, and what is plugged in there."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    labels = LabelsField()
    network = ReferenceSerializer()
    mac = serializers.CharField()
    addresses = PortAddressSerializer(many=True)
    security_groups = ReferenceSerializer(many=True)
    allowed_address_pairs = PairSerializer(many=True)
    gateway = serializers.SerializerMethodField(help_text="Whether its instance has its default route by it.")
    holder = serializers.SerializerMethodField(help_text="What is plugged in; null: nothing.")
    instance = serializers.SerializerMethodField(help_text="The same, if it is an instance.")
    created_at = serializers.DateTimeField()

    def find_status(self, row: Port) -> Status:
        return of_port(row, carried=self.carried)

    def get_gateway(self, port: Any) -> bool:
        return ports.is_held_from_above(port) and any(one.leads for one in port.addresses.all())

    @extend_schema_field(HolderSerializer(allow_null=True))
    def get_holder(self, port: Port) -> dict[str, str] | None:
        return holder_of(port)

    @extend_schema_field(ReferenceSerializer(allow_null=True))
    def get_instance(self, port: Port) -> dict[str, str] | None:
        return machine_of(port)


class MacText(Text):
    """A MAC address of one device: 02:00:5e:00:00:01."""

    def __init__(self, **options: Any):
        super().__init__(max_length=17, **options)

    def to_internal_value(self, data: Any) -> str:
        mac = super().to_internal_value(data).lower()
        if not MAC_FORM.fullmatch(mac) or mac == "00:00:00:00:00:00":
            raise ValidationError("Write it as six octets, like 02:00:5e:00:00:01.")
        if int(mac[:2], 16) & 1:
            raise ValidationError("This is a group's MAC address; give one of a device.")
        return mac


class PairForm(Body):
    """Another address, or a range, that what is plugged in may use, e.g. one that two machines share."""

    address = Text(max_length=50)
    mac = MacText(required=False)

    def validate_address(self, text: str) -> str:
        try:
            if "/" not in text:
                return str(addressing.read_address(text))
            network = addressing.read_network(text)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        if network.prefixlen < addressing.PREFIXES[network.version][0]:
            raise ValidationError(f"{network} is too large: it would switch off the protection against false senders.")
        return str(network)


class WantedForm(Body):
    """An address, or any of a subnet."""

    subnet = ReferenceField(subnets_of, required=False)
    address = AddressText(required=False)

    def validate(self, body: dict[str, Any]) -> dict[str, Any]:
        if not body:
            raise ValidationError("Give a subnet, an address, or both.")
        return body


class PortChanges(Body):
    name = NameField(required=False)
    labels = LabelsField(required=False)
    security_groups = ReferencesField(groups_of, required=False, most=MAX_GROUPS)
    allowed_address_pairs = list_of(PairForm, MAX_PAIRS)


class PortUpdate(PortChanges):
    gateway = Flag(required=False, help_text="True: its instance is to have its default route by this NIC.")


class PortForm(PortChanges):
    """Only the network has to be given. Without addresses it gets one of each family."""

    network = ReferenceField(networks_of)
    addresses = list_of(WantedForm, MAX_ADDRESSES)

    def validate_addresses(self, found: list[dict[str, Any]]) -> list[Wanted]:
        return [Wanted(**one) for one in found]


class PortView(InProject):
    serializer = PortSerializer
    forms = {"POST": PortForm, "PATCH": PortUpdate}
    parameters = {"DELETE": {"cascade": CASCADE}}

    def rows(self) -> QuerySet[Port]:
        return ports_of(self.scope)


class Ports(PortView, Collection):
    filters = {
        "name": Filter(serializers.CharField()),
        "network": Filter(serializers.CharField(), "network__name"),
        "mac": Filter(serializers.CharField()),
        "address": Filter(AddressText(), "addresses__address"),
        "holder": Filter(serializers.UUIDField(help_text="The id of what is plugged in."), "holder_id"),
    }

    def create(self, body: dict[str, Any]) -> Port:
        """Without `security_groups` it is in `default`."""
        return ports.create(actor=self.actor, **body)


class OnePort(PortView, Item):
    def change(self, port: Port, body: dict[str, Any]) -> Port:
        """What is plugged in stays plugged in."""
        return ports.update(port=port, actor=self.actor, **body)

    def remove(self, port: Port) -> None:
        """Refused while something is plugged in, or leads to it from outside; `cascade` lets go of the latter."""
        ports.delete(port=port, actor=self.actor, cascade=bool(self.query().get("cascade")))


urlpatterns = [
    path("projects/<str:project>/ports", Ports.as_view()),
    path("projects/<str:project>/ports/<str:ref>", OnePort.as_view()),
]
