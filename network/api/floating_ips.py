"""/api/v1/projects/{project}/floating-ips"""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from cloud.api.fields import NOT_FOUND, LabelsField, NameField, ReferenceField, as_uuid
from cloud.api.pagination import Filter
from cloud.api.scope import Scope
from cloud.api.serializers import Body, Nothing, ReferenceSerializer
from cloud.api.views import Collection, InProject, Item, Verb
from network.api.fields import CASCADE, AddressText
from network.api.ports import ports_of
from network.api.shown import WithWayIn, machine_of
from network.models import AddressPool, FloatingIP, Port
from network.services import floating_ips
from network.services.ports import ROUTER


def floating_ips_of(scope: Scope) -> QuerySet[FloatingIP]:
    own = FloatingIP.objects.filter(project_id=scope.project_id)
    related = own.select_related("pool", "project", "target__port__network")
    return related.prefetch_related("target__port__network__on_hosts")


class FloatingIPSerializer(WithWayIn):
    """An address of a pool that the project holds, and where it leads."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    labels = LabelsField()
    pool = ReferenceSerializer()
    address = serializers.CharField()
    port = ReferenceSerializer(source="target.port", allow_null=True, default=None)
    fixed_address = serializers.CharField(source="target.address", allow_null=True, default=None)
    instance = serializers.SerializerMethodField(help_text="What is plugged in there.")
    created_at = serializers.DateTimeField()

    def port_of(self, row: FloatingIP) -> Port | None:
        return row.target.port if row.target else None

    @extend_schema_field(ReferenceSerializer(allow_null=True))
    def get_instance(self, floating: FloatingIP) -> dict[str, str] | None:
        return machine_of(floating.target.port) if floating.target else None


class InstancePortField(ReferenceField):
    """An instance, by name or id: its first port is meant."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str) or not data:
            self.fail("invalid")
        ident = as_uuid(data)
        held = {"holder_id": ident} if ident else {"holder_name": data.replace("\x00", "")}
        plugged = self.rows(self.context["scope"]).exclude(holder_type=ROUTER)
        found = plugged.filter(holder_id__isnull=False, **held).order_by("holder_slot").first()
        if found is None:
            raise ValidationError(f"{NOT_FOUND} Or it has no port.")
        return found


class LeadsTo(Body):
    """A port, or an instance's first one."""

    port = ReferenceField(ports_of, required=False)
    instance = InstancePortField(ports_of, required=False)
    address = AddressText(required=False, help_text="Which one of the port's.")
    needs_port = True

    def validate(self, body: dict[str, Any]) -> dict[str, Any]:
        instance: Port | None = body.pop("instance", None)
        if instance is not None and "port" in body:
            raise ValidationError("Give a port or an instance, not both.")
        if instance is not None:
            body["port"] = instance
        elif "port" not in body and self.needs_port:
            raise ValidationError("Give a port or an instance.")
        return body


class FloatingIPChanges(Body):
    name = NameField(required=False)
    labels = LabelsField(required=False)


class FloatingIPForm(LeadsTo):
    """Nothing has to be given: it is then any address of the only pool, and leads nowhere yet."""

    name = NameField(required=False)
    labels = LabelsField(required=False)
    pool = ReferenceField(lambda scope: AddressPool.objects.all(), required=False)
    address = AddressText(required=False, help_text="This one of the pool.")
    needs_port = False


class AssociateForm(LeadsTo):
    """Where it should lead. It leads nowhere else then."""


class FloatingIPView(InProject):
    serializer = FloatingIPSerializer
    forms = {"POST": FloatingIPForm, "PATCH": FloatingIPChanges}
    parameters = {"DELETE": {"cascade": CASCADE}}

    def rows(self) -> QuerySet[FloatingIP]:
        return floating_ips_of(self.scope)


class FloatingIPs(FloatingIPView, Collection):
    filters = {
        "name": Filter(serializers.CharField()),
        "address": Filter(AddressText()),
        "pool": Filter(serializers.CharField(), "pool__name"),
    }

    def create(self, body: dict[str, Any]) -> FloatingIP:
        """It is the project's until it is deleted, whether it leads somewhere or not."""
        return floating_ips.create(project=self.project, actor=self.actor, **body)


class OneFloatingIP(FloatingIPView, Item):
    def change(self, floating: FloatingIP, body: dict[str, Any]) -> FloatingIP:
        return floating_ips.update(floating=floating, actor=self.actor, changes=body)

    def remove(self, floating: FloatingIP) -> None:
        """The address goes back to its pool. Refused while port forwards listen there, unless `cascade`."""
        floating_ips.delete(floating=floating, actor=self.actor, cascade=bool(self.query().get("cascade")))


class Associate(FloatingIPView, Verb):
    """Point it at a port, also when it led to another one until now."""

    forms = {"POST": AssociateForm}

    def act(self, floating: FloatingIP, body: dict[str, Any]) -> FloatingIP:
        return floating_ips.associate(floating=floating, actor=self.actor, **body)


class Disassociate(FloatingIPView, Verb):
    """It leads nowhere, and stays the project's."""

    forms = {"POST": Nothing}

    def act(self, floating: FloatingIP, body: dict[str, Any]) -> FloatingIP:
        return floating_ips.disassociate(floating=floating, actor=self.actor)


urlpatterns = [
    path("projects/<str:project>/floating-ips", FloatingIPs.as_view()),
    path("projects/<str:project>/floating-ips/<str:ref>", OneFloatingIP.as_view()),
    path("projects/<str:project>/floating-ips/<str:ref>/associate", Associate.as_view()),
    path("projects/<str:project>/floating-ips/<str:ref>/disassociate", Disassociate.as_view()),
]
