"""The bodies of the verbs of an instance, for one and for many."""

from typing import Any

from django.core.validators import RegexValidator
from rest_framework import serializers

from cloud.api.fields import Flag, Integer, NameField, ReferenceField, ReferencesField, Text
from cloud.api.serializers import Body
from compute import logins
from compute.first_volumes import Disk
from compute.models import Flavor
from compute.services.launching import MAX_NAME, numbered
from compute.services.snapshotting import MAX_OWN_NAME
from network.api.fields import AddressText
from network.api.ports import groups_of, ports_of
from network.api.subnets import networks_of
from network.services.ports import MAX_GROUPS
from storage.api.images import visible
from storage.api.volume_types import offered
from storage.api.volumes import volumes_of
from storage.models.volumes import MAX_SIZE_GIB

MAX_AT_ONCE = 20
SUFFIX = RegexValidator(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z", "Use lower-case letters, digits and hyphens inside.")

USER = RegexValidator(r"^[a-z_][a-z0-9_.-]*\Z", "Use lower-case letters, digits, -, _ and dots, a letter first.")
PRINTABLE = RegexValidator(r"^[^\x00-\x1f\x7f]*\Z", "Use no control characters.")


def password_field(help_text: str) -> Text:
    least, most = logins.MIN_PASSWORD, logins.MAX_PASSWORD
    return Text(required=False, min_length=least, max_length=most, validators=[PRINTABLE], help_text=help_text)


class NumberedForm(Body):
    """One new instance, or several that are alike."""

    name = NameField()
    count = Integer(
        required=False, min_value=1, max_value=MAX_AT_ONCE, help_text="Several alike: web-1, web-2 … All or none."
    )

    def validate(self, body: dict[str, Any]) -> dict[str, Any]:
        longest = numbered(body["name"], body.get("count", 1))[-1]
        if len(longest) > MAX_NAME:
            raise serializers.ValidationError({"name": f"With its number it has more than {MAX_NAME} characters."})
        return body


class StopForm(Body):
    """Without force the guest is asked first, and forced when the grace is over."""

    force = Flag(required=False)
    grace_seconds = Integer(required=False, max_value=600)


class RebootForm(Body):
    """Hard is like the reset button."""

    hard = Flag(required=False)


class ResetPasswordForm(Body):
    """Without a password one is generated, and is in this answer only: `generated_password`."""

    user = Text(required=False, max_length=32, validators=[USER], help_text="Left out: the user of its image.")
    password = password_field("Only a hash of it is kept.")
    reboot = Flag(required=False, help_text="Reboot it at once, unless its guest agent sets the password.")


class ResizeManyForm(Body):
    """The flavor that they get."""

    flavor = ReferenceField(lambda scope: Flavor.objects.all(), required=False)
    restart = Flag(required=False, help_text="Stop it first if it runs, and start it again.")


class ResizeInstanceForm(ResizeManyForm):
    """The flavor that it gets."""

    flavor = ReferenceField(lambda scope: Flavor.objects.all())


class DeleteForm(Body):
    """Through the trash, from where it comes back for a day; or not."""

    purge = Flag(required=False, help_text="Delete it for good at once.")


class NicBody(Body):
    """A NIC: on a network, at an address of it if that matters; or at a port that there is."""

    network = ReferenceField(networks_of, required=False)
    address = AddressText(required=False)
    port = ReferenceField(ports_of, required=False)
    gateway = Flag(
        required=False, help_text="The default route is by this NIC. Left out of all: by the first that has a gateway."
    )

    def validate(self, body: dict[str, Any]) -> Any:
        if ("network" in body) == ("port" in body):
            raise serializers.ValidationError("Give a network or a port.")
        if "port" in body and "address" in body:
            raise serializers.ValidationError({"address": "A port has its addresses already."})
        return body


class AttachNicForm(NicBody):
    """The network or the port that it is plugged into."""

    security_groups = ReferencesField(
        groups_of, required=False, most=MAX_GROUPS, help_text="Of a port that is made. Left out: `default`."
    )


class AttachManyForm(Body):
    """The network that they are plugged into, each at an address that is free."""

    network = ReferenceField(networks_of, required=False)
    security_groups = ReferencesField(groups_of, required=False, most=MAX_GROUPS)


class DetachNicForm(Body):
    """Which of its NICs: that of a port, or its only one on a network."""

    port = ReferenceField(ports_of, required=False)
    network = ReferenceField(networks_of, required=False)

    def validate(self, body: dict[str, Any]) -> dict[str, Any]:
        if ("network" in body) == ("port" in body):
            raise serializers.ValidationError("Give a network or a port.")
        return body


class DetachManyForm(Body):
    """The network that they leave."""

    network = ReferenceField(networks_of, required=False)


class AttachVolumeForm(Body):
    """The volume, which is attached to nothing. From another host it is copied to the one of the instance first."""

    volume = ReferenceField(volumes_of, required=False)
    read_only = Flag(required=False)  # type: ignore[assignment]
    delete_with_instance = Flag(required=False, help_text="Whether it is deleted with the instance.")


class DetachVolumeForm(Body):
    """The volume."""

    volume = ReferenceField(volumes_of, required=False)


class InsertCdForm(Body):
    """The CD: an image that is an ISO."""

    image = ReferenceField(visible, required=False)


class NewVolumeBody(Body):
    """A volume that an instance is launched with: one that there is, or a new one."""

    volume = ReferenceField(volumes_of, required=False, help_text="One that there is. Without it a new one is made.")
    size_gib = Integer(required=False, min_value=1, max_value=MAX_SIZE_GIB, help_text="Of a new one.")
    type = ReferenceField(offered, required=False, help_text="Of a new one; left out it is the default type.")
    name = NameField(required=False, help_text="Of a new one; left out it is named after the instance.")
    delete_with_instance = Flag(
        required=False,
        help_text="Whether it is deleted with the instance. Left out: a new one is, one that there was is not.",
    )

    def validate(self, body: dict[str, Any]) -> Disk:
        is_new = "volume" not in body
        words = "That is for a new volume, and not for one that there is."
        wrong: dict[str, Any] = {name: words for name in ("size_gib", "type", "name") if name in body and not is_new}
        if wrong:
            raise serializers.ValidationError(wrong)
        return Disk(**{"delete_with_instance": is_new, **body})


class FirstVolumeBody(NewVolumeBody):
    """A volume beside the disk that it boots from."""

    read_only = Flag(required=False, help_text="Of one that there is.")  # type: ignore[assignment]

    def validate(self, body: dict[str, Any]) -> Disk:
        if "volume" not in body and "size_gib" not in body:
            raise serializers.ValidationError("Give a size for a new volume, or a volume that there is.")
        if "volume" not in body and body.get("read_only"):
            raise serializers.ValidationError({"read_only": "A new volume is empty, and would stay so."})
        return super().validate(body)


class CloneForm(NumberedForm):
    """What the clones are called; everything else they have of the instance."""


class SnapshotInstanceForm(Body):
    """What the image of its own disk is called. Snapshots of volumes are also called after these."""

    name = NameField(max_length=MAX_OWN_NAME)


class SnapshotManyForm(Body):
    """What is added to the name of each for its snapshot."""

    suffix = Text(required=False, max_length=32, validators=[SUFFIX], help_text="web and may make web-may.")


class CloneManyForm(Body):
    """What is added to the name of each for its clones."""

    suffix = Text(required=False, max_length=32, validators=[SUFFIX], help_text="web and copy make web-copy.")
    count = Integer(required=False, min_value=1, max_value=MAX_AT_ONCE, help_text="Several are numbered.")
