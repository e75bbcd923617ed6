"""/api/v1/projects/{project}/instances"""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from cloud.api import views
from cloud.api.fields import Flag, LabelsField, NameField, ReferenceField, ReferencesField, Text
from cloud.api.pagination import Filter
from cloud.api.scope import RANK
from cloud.api.serializers import Body, ReferenceSerializer
from cloud.api.views import DRY_RUN, Collection, InProject, Item, Several
from cloud.hosts.models import Host
from cloud.operations.api import OperationSerializer
from cloud.tenancy.models import Role
from compute import services, user_data
from compute.api.bodies import NumberedForm
from compute.hypervisors import KINDS
from compute.models import WISHES, Flavor, Instance, KeyPair, Power, RestartPolicy
from compute.networking import MAX_NICS, Nic, with_addresses
from compute.status import STATUSES, as_listed, reason, with_status
from compute.verbs import VERBS, Verb
from network.api.fields import AddressText, list_of
from network.api.ports import groups_of, ports_of
from network.api.subnets import networks_of
from network.services.ports import MAX_GROUPS
from storage.services import images_of

MAX_USER_DATA_BYTES = 64 * 1024
NOT_CARRIED = "Its host carries no networks."


class FlavorOfInstance(ReferenceSerializer):
    """The size that it was launched with, whatever has become of the flavor."""

    vcpus = serializers.IntegerField()
    memory_mib = serializers.IntegerField()
    disk_gib = serializers.IntegerField()


class InstanceAddressSerializer(serializers.Serializer):
    """Where it is reached on one of its networks."""

    address = serializers.CharField()
    family = serializers.IntegerField(help_text="4 or 6.")
    network = ReferenceSerializer()
    port = ReferenceSerializer()
    floating_ip = serializers.CharField(allow_null=True, help_text="Where it is reached from outside.")


class InstanceSerializer(serializers.Serializer):
    """A virtual machine."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    status = serializers.ChoiceField(STATUSES)
    status_reason = serializers.CharField()
    wanted_power = serializers.ChoiceField(WISHES)
    seen_power = serializers.ChoiceField(Power.values)
    flavor = FlavorOfInstance()
    image = ReferenceSerializer()
    hypervisor = serializers.CharField(allow_null=True)
    addresses = InstanceAddressSerializer(many=True)
    address_reason = serializers.CharField(help_text="Why an instance that is placed has no address.")
    volumes = serializers.ListField(child=serializers.DictField())
    keypairs = serializers.ListField(child=serializers.CharField())
    security_groups = serializers.ListField(child=serializers.CharField())
    ssh_host_key = serializers.CharField(
        allow_null=True, help_text="For known_hosts: what its host gave to the guest. Known once it has started."
    )
    labels = LabelsField()
    restart_policy = serializers.ChoiceField(RestartPolicy.values)
    operation = OperationSerializer(allow_null=True)
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    host = ReferenceSerializer(allow_null=True, help_text="For admins of the cloud; null otherwise.")
    user_data = serializers.CharField(allow_null=True, help_text="Of one instance, for members; null otherwise.")

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """Made by hand, as there may be hundreds on a page: the fields above only say what it is."""
        scope, live = self.context["scope"], instance.live_operation
        flavor = {"id": str(instance.flavor_id), "name": instance.flavor.name}
        is_shown_alone = isinstance(self.context["view"], Item)
        may_read = is_shown_alone and RANK[Role(scope.role)] >= RANK[Role.MEMBER]
        shows_host = instance.host is not None and scope.is_cloud_admin
        return {
            "id": str(instance.pk),
            "name": instance.name,
            "status": instance.status,
            "status_reason": reason(instance),
            "wanted_power": instance.wanted_power,
            "seen_power": instance.seen,
            "flavor": {**flavor, **{name: getattr(instance, name) for name in ("vcpus", "memory_mib", "disk_gib")}},
            "image": {"id": str(instance.image_id), "name": instance.image.name},
            "hypervisor": instance.hypervisor or instance.hypervisor_wish or None,
            "addresses": instance.addresses,
            "address_reason": NOT_CARRIED if instance.host and instance.is_unplugged else "",
            "volumes": [],
            "keypairs": [key["name"] for key in instance.keypairs],
            "security_groups": instance.group_names,
            "ssh_host_key": instance.ssh_host_key or None,
            "labels": instance.labels,
            "restart_policy": instance.restart_policy,
            "operation": live and self.fields["operation"].to_representation(live),
            "created_at": instance.created_at.isoformat().replace("+00:00", "Z"),
            "created_by": instance.created_by,
            "host": {"id": str(instance.host_id), "name": instance.host.name} if shows_host else None,
            "user_data": instance.user_data if may_read else None,
        }


class NicForm(Body):
    """A NIC: on a network, at an address of it if that matters; or at a port that there is."""

    network = ReferenceField(networks_of, required=False)
    address = AddressText(required=False)
    port = ReferenceField(ports_of, required=False)

    def validate(self, body: dict[str, Any]) -> Nic:
        if ("network" in body) == ("port" in body):
            raise serializers.ValidationError("Give a network or a port.")
        if "port" in body and "address" in body:
            raise serializers.ValidationError({"address": "A port has its addresses already."})
        return Nic(**body)


class LaunchForm(NumberedForm):
    """Everything but name, flavor and image may be left out."""

    flavor = ReferenceField(lambda scope: Flavor.objects.all())
    image = ReferenceField(lambda scope: images_of(scope.project))
    keypairs = ReferencesField(lambda scope: KeyPair.objects.filter(project=scope.project), required=False)
    user_data = Text(required=False, allow_blank=True, max_length=MAX_USER_DATA_BYTES)
    labels = LabelsField(required=False)
    wanted_power = serializers.ChoiceField(("running", "stopped"), required=False)
    restart_policy = serializers.ChoiceField(RestartPolicy.values, required=False)
    hypervisor = serializers.ChoiceField(tuple(KINDS), required=False)
    networks = list_of(NicForm, MAX_NICS)
    security_groups = ReferencesField(
        groups_of, required=False, most=MAX_GROUPS, help_text="Of ports that are made. Left out: `default`."
    )
    open_ssh = Flag(
        required=False,
        help_text="Also in a group that lets SSH (TCP port 22) in from anywhere. It is made where there is none.",
    )
    host = ReferenceField(
        lambda scope: Host.objects.all() if scope.is_cloud_admin else Host.objects.none(),
        required=False,
        help_text="For admins of the cloud.",
    )

    def validate_networks(self, nics: list[Nic]) -> list[Nic]:
        twice = [index for index, nic in enumerate(nics) if nic.port and nic.port in [one.port for one in nics[:index]]]
        if twice:
            raise serializers.ValidationError({str(index): ["This port is in the list before it."] for index in twice})
        return nics

    def validate_user_data(self, text: str) -> str:
        if len(text.encode()) > MAX_USER_DATA_BYTES:
            raise serializers.ValidationError(f"At most {MAX_USER_DATA_BYTES // 1024} KiB.")
        if fault := user_data.fault(text):
            raise serializers.ValidationError(fault)
        return text


class InstanceChanges(Body):
    name = NameField()
    labels = LabelsField()
    restart_policy = serializers.ChoiceField(RestartPolicy.values)


class InstanceView(InProject):
    serializer = InstanceSerializer

    def rows(self) -> QuerySet[Instance]:
        own = Instance.objects.filter(project=self.project).defer("user_data", "machine__seen_facts", "placement")
        return with_addresses(with_status(own.select_related("flavor", "image", "machine__host")))


class Instances(InstanceView, Collection):
    may_create_several = True
    summaries = {"POST": "Launch an instance"}
    forms = {"POST": LaunchForm}
    parameters = {
        "POST": {"fail_fast": serializers.BooleanField(help_text="Refuse at once when nothing has room now.")}
    }
    filters = {
        "name": Filter(serializers.CharField()),
        "status": Filter(serializers.ChoiceField(STATUSES)),
        "flavor": Filter(serializers.CharField(), "flavor__name"),
        "image": Filter(serializers.CharField(), "image__name"),
        "wanted_power": Filter(serializers.ChoiceField(WISHES)),
    }

    def rows(self) -> QuerySet[Instance]:
        return with_addresses(as_listed(Instance.objects.filter(project=self.project)))

    def create(self, body: dict[str, Any]) -> Instance | Several:
        """Launch one, or several alike: all or none. Where nothing has room they wait for it, unless `fail_fast`."""
        fail_fast = bool(self.query({"dry_run": DRY_RUN}).get("fail_fast"))
        launched = services.launch_many(
            project=self.project, actor=self.actor, fail_fast=fail_fast, dry_run=self.is_dry, **body
        )
        return _one_or_several(launched)

    def plan(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = [one["id"] for one in body.get("items", [body])]
        kept = Instance.objects.only("placement").in_bulk([UUID(ident) for ident in ids])
        decisions = [shown_decision(kept[UUID(ident)].placement, self.scope.is_cloud_admin) for ident in ids]
        return {"placements": decisions} if "items" in body else {"placement": decisions[0]}


class OneInstance(InstanceView, Item):
    forms = {"PATCH": InstanceChanges}
    descriptions = {"DELETE": VERBS["delete"].says}

    def change(self, instance: Instance, body: dict[str, Any]) -> Instance:
        """A name, labels and a restart policy; the guest isn't touched."""
        return services.update(instance=instance, actor=self.actor, **body)

    def remove(self, instance: Instance) -> Instance:
        services.delete(instance=instance, actor=self.actor)
        return instance


class InstanceVerb(InstanceView, views.Verb):
    """Whichever verb; it has one view for each (`verb_urls`)."""

    may_create_several = False
    verb: Verb = None  # type: ignore[assignment]  # as_view gives it

    def act(self, instance: Instance, body: dict[str, Any]) -> Instance | Several:
        done = self.verb.service(instance=instance, actor=self.actor, **body)
        return _one_or_several(done) if self.verb.makes_instances else instance


def _one_or_several(made: list[Instance]) -> Instance | Several:
    return Several(made) if len(made) > 1 else made[0]


def shown_decision(decision: dict[str, Any] | None, is_admin: bool) -> dict[str, Any] | None:
    """A kept decision as its reader may see it: tenants learn that it is placed, not where."""
    if decision is None:
        return None
    return {**decision, "placed": decision["host"] is not None, "host": decision["host"] if is_admin else None}


urlpatterns = [
    path("projects/<str:project>/instances", Instances.as_view()),
    path("projects/<str:project>/instances/<str:ref>", OneInstance.as_view()),
    *(
        path(
            f"projects/<str:project>/instances/<str:ref>/{verb.name}",
            InstanceVerb.as_view(
                verb=verb,
                forms={"POST": verb.body},
                descriptions={"POST": verb.says},
                may_create_several=verb.makes_instances,
            ),
        )
        for verb in VERBS.values()
        if verb.method == "POST"
    ),
]
