"""The body of a launch."""

from typing import Any

from rest_framework import serializers

from cloud.api.fields import Flag, LabelsField, ReferenceField, ReferencesField, Text, called
from cloud.hosts.models import Host
from compute import user_data
from compute.api.bodies import FirstVolumeBody, NewVolumeBody, NicBody, NumberedForm, password_field
from compute.hypervisors import KINDS
from compute.models import Flavor, KeyPair, RestartPolicy
from compute.networking import MAX_NICS, Nic
from compute.volumes import MAX_VOLUMES
from network.api.fields import list_of
from network.api.ports import groups_of
from network.services.ports import MAX_GROUPS
from storage.services import image_called, images_of

MAX_USER_DATA_BYTES = 64 * 1024

flavor_called = called(Flavor.objects.all)


class NicForm(NicBody):
    def validate(self, body: dict[str, Any]) -> Nic:
        return Nic(**super().validate(body))


class LaunchForm(NumberedForm):
    """Everything but name, flavor and image may be left out; the image, too, when it boots from a volume."""

    flavor = ReferenceField(lambda scope: Flavor.objects.all(), found=lambda scope, text: flavor_called(text))
    image = ReferenceField(
        lambda scope: images_of(scope.project),
        found=lambda scope, text: image_called(text, scope.project),
        required=False,
        help_text="Left out only with the volume of `boot_from`, which brings its own.",
    )
    boot_from = NewVolumeBody(
        required=False, help_text="A volume in the place of its own disk. A new one begins with the image."
    )
    volumes = list_of(FirstVolumeBody, MAX_VOLUMES)
    keypairs = ReferencesField(lambda scope: KeyPair.objects.filter(project=scope.project), required=False)
    user_data = Text(required=False, allow_blank=True, max_length=MAX_USER_DATA_BYTES)
    password = password_field("Of the image's user, for its console and for SSH. Only a hash of it is kept.")
    generate_password = Flag(required=False, help_text="Make one, and show it in this answer only.")
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

    def validate(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("password") and body.get("generate_password"):
            raise serializers.ValidationError(
                {"generate_password": "Give a password, or have one generated, not both."}
            )
        brings_image = "boot_from" in body and not body["boot_from"].is_new
        if "image" not in body and not brings_image:
            raise serializers.ValidationError({"image": self.fields["image"].error_messages["required"]})
        if "image" in body and brings_image:
            raise serializers.ValidationError({"image": "The volume that it boots from brings its own."})
        image = body["boot_from"].volume.image if brings_image else body["image"]
        if fault := user_data.fault(body.get("user_data", ""), full=bool(image and image.cloud_init)):
            raise serializers.ValidationError({"user_data": fault})
        return super().validate(body)

    def validate_networks(self, nics: list[Nic]) -> list[Nic]:
        twice = [index for index, nic in enumerate(nics) if nic.port and nic.port in [one.port for one in nics[:index]]]
        if twice:
            raise serializers.ValidationError({str(index): ["This port is in the list before it."] for index in twice})
        chosen = [index for index, nic in enumerate(nics) if nic.gateway]
        if len(chosen) > 1:
            raise serializers.ValidationError(
                {str(index): {"gateway": ["Only one NIC has the default route."]} for index in chosen[1:]}
            )
        return nics

    def validate_user_data(self, text: str) -> str:
        if len(text.encode()) > MAX_USER_DATA_BYTES:
            raise serializers.ValidationError(f"At most {MAX_USER_DATA_BYTES // 1024} KiB.")
        if fault := user_data.fault(text, full=True):  # what depends on the image comes later
            raise serializers.ValidationError(fault)
        return text
