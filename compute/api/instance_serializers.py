"""An instance as the API shows it."""

from datetime import datetime
from typing import Any

from rest_framework import serializers

from cloud.api.fields import LabelsField
from cloud.api.scope import RANK
from cloud.api.serializers import ReferenceSerializer
from cloud.api.views import Item
from cloud.operations.api import OperationSerializer
from cloud.tenancy.models import Role
from compute.models import WISHES, Instance, Power, RestartPolicy
from compute.status import STATUSES, reason

NOT_CARRIED = "Its host carries no networks."
_OPERATION = OperationSerializer()  # to ask a serializer for one of its fields makes them all


class FlavorOfInstance(ReferenceSerializer):
    """The size that it was launched with or resized to, whatever has become of the flavor."""

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


class InstanceVolumeSerializer(serializers.Serializer):
    """A volume that is one of its disks."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    size_gib = serializers.IntegerField()
    slot = serializers.IntegerField(help_text="1: /dev/vdb, 2: /dev/vdc …; 0: it boots from this one.")
    read_only = serializers.BooleanField()  # type: ignore[assignment]
    delete_with_instance = serializers.BooleanField()


class GuestAgentSerializer(serializers.Serializer):
    """The QEMU guest agent that answers in its guest."""

    version = serializers.CharField(help_text="As it says itself; may be empty.")
    can = serializers.ListField(
        child=serializers.ChoiceField(Instance.ABILITIES),
        help_text="`freeze`: snapshots hold its file systems still. `password`: sets new passwords at once.",
    )


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
    cd = ReferenceSerializer(allow_null=True, help_text="The ISO that is in its CD drive.")
    hypervisor = serializers.CharField(allow_null=True)
    addresses = InstanceAddressSerializer(many=True)
    address_reason = serializers.CharField(help_text="Why an instance that is placed has no address.")
    volumes = InstanceVolumeSerializer(many=True)
    login_user = serializers.CharField(help_text="Who logs in to its image.")
    keypairs = serializers.ListField(child=serializers.CharField())
    security_groups = serializers.ListField(child=serializers.CharField())
    password_waits = serializers.BooleanField(help_text="Whether a new password waits for its next start.")
    guest_agent = GuestAgentSerializer(
        allow_null=True, help_text="Of one instance, while an agent answers in its guest; null otherwise."
    )
    ssh_host_key = serializers.CharField(
        allow_null=True, help_text="For known_hosts: what its host gave to the guest. Known once it has started."
    )
    labels = LabelsField()
    restart_policy = serializers.ChoiceField(RestartPolicy.values)
    protected = serializers.BooleanField(help_text="Whether it refuses to be deleted.")
    trashed_at = serializers.DateTimeField(allow_null=True, help_text="Since when it is in the trash.")
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
            "cd": {"id": str(instance.cd_id), "name": instance.cd.name} if instance.cd else None,
            "hypervisor": instance.hypervisor or instance.hypervisor_wish or None,
            "addresses": instance.addresses,
            "address_reason": NOT_CARRIED if instance.is_unplugged else "",
            "volumes": instance.volumes,
            "login_user": instance.image.default_user,
            "keypairs": [key["name"] for key in instance.keypairs],
            "security_groups": instance.group_names,
            "password_waits": instance.password_waits,
            "guest_agent": instance.guest_agent if is_shown_alone else None,
            "ssh_host_key": instance.ssh_host_key or None,
            "labels": instance.labels,
            "restart_policy": instance.restart_policy,
            "protected": instance.protected,
            "trashed_at": _moment(instance.trashed_at),
            "operation": live and _OPERATION.to_representation(live),
            "created_at": _moment(instance.created_at),
            "created_by": instance.created_by,
            "host": {"id": str(instance.host_id), "name": instance.host.name} if shows_host else None,
            "user_data": instance.user_data if may_read else None,
        }


class LaunchedInstanceSerializer(InstanceSerializer):
    """With the password that was generated for it, and is kept nowhere."""

    generated_password = serializers.CharField(allow_null=True)


def _moment(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None
