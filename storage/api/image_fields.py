"""The bodies of images, and how one is shown."""

from typing import Any
from urllib.parse import urlsplit

from django.core.validators import RegexValidator
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.addresses import absolute
from cloud.api.fields import Flag, Integer, LabelsField, NameField, Text
from cloud.api.serializers import Body
from cloud.operations.api import OperationSerializer
from storage.models import Image

FORMATS = ("qcow2", "raw", "vmdk", "vdi", "vhd", "vhdx", "ova", "iso")
SOURCES = ("upload", "url")
MAX_BYTES = 2**62
SHA256 = RegexValidator(r"^[0-9a-f]{64}\Z", "A SHA-256 has 64 lower-case hexadecimal digits.")
VERSION = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._+~-]*\Z", "Use letters, digits, dots, hyphens, underscores, + and ~."
)
USER = RegexValidator(r"^[a-z_][a-z0-9_-]*\Z", "Use lower-case letters, digits, hyphens and underscores.")


class Bytes(Integer):
    def __init__(self, **options: Any):
        super().__init__(min_value=1, max_value=MAX_BYTES, **options)


class SourceForm(Body):
    """Where an image comes from."""

    kind = serializers.ChoiceField(SOURCES, help_text="upload: you send it to `upload.url` of the answer.")
    url = Text(required=False, max_length=2000, help_text="Of kind url: http or https.")
    size = Bytes(required=False, help_text="Of kind upload: its bytes, if you know them before.")
    sha256 = Text(required=False, validators=[SHA256], help_text="What comes must have this sum.")
    format = serializers.ChoiceField(FORMATS, required=False, help_text="Left out: whichever of these it is.")

    def validate(self, source: dict[str, Any]) -> dict[str, Any]:
        is_url = source["kind"] == "url"
        faults = {}
        if is_url and "url" not in source:
            faults["url"] = "Say from where it is to be fetched."
        if not is_url and "url" in source:
            faults["url"] = "Only a source of kind url has one."
        if is_url and "size" in source:
            faults["size"] = "Only a source of kind upload has one."
        if "url" in source and (wrong := _fault_of(source["url"])):
            faults["url"] = wrong
        if faults:
            raise serializers.ValidationError(faults)
        return source


def _fault_of(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "This is no URL."
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "Give a URL that begins with http:// or https://."
    if parts.username is not None or parts.password is not None:
        return "A URL may hold no password: it is shown to everybody in the project."
    return ""


class ImageProperties(Body):
    """What is said of an image, and of the machine that boots it."""

    labels = LabelsField(required=False)
    description = Text(required=False, allow_blank=True, max_length=500)
    os = Text(required=False, max_length=40)
    architecture = serializers.ChoiceField(Image.Architecture.choices, required=False)
    firmware = serializers.ChoiceField(Image.Firmware.choices, required=False, allow_blank=True)
    machine_type = serializers.ChoiceField(Image.MachineType.choices, required=False, allow_blank=True)
    disk_bus = serializers.ChoiceField(
        Image.DiskBus.choices, required=False, allow_blank=True, help_text="ide or sata for a guest without virtio."
    )
    nic_bus = serializers.ChoiceField(
        Image.NicBus.choices, required=False, allow_blank=True, help_text="e1000 for a guest without virtio."
    )
    min_disk_gib = Integer(required=False, min_value=1, max_value=16 * 1024)
    min_memory_mib = Integer(required=False, min_value=16, max_value=16 * 1024 * 1024)
    default_user = Text(required=False, max_length=32, validators=[USER])
    cloud_init = Flag(
        required=False,
        help_text="Whether it has a full cloud-init: user data may then also be a template, an include, a part handler "
        "or a JSON patch, and goes to the guest as it is.",
    )


class ImageForm(ImageProperties):
    name = NameField()
    version = Text(required=False, max_length=80, validators=[VERSION], help_text="Of several versions of one name.")
    source = SourceForm()  # type: ignore[assignment]


class ImageChanges(ImageProperties):
    name = NameField(required=False)
    version = Text(required=False, max_length=80, validators=[VERSION])
    protected = Flag(required=False, help_text="Whether it refuses to be deleted.")
    deprecated_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="From then on its name means another version."
    )


class CreateImageForm(Body):
    """How an image of a disk is called that is there already."""

    name = NameField()
    version = Text(required=False, max_length=80, validators=[VERSION], help_text="Of several versions of one name.")
    description = Text(required=False, allow_blank=True, max_length=500)
    labels = LabelsField(required=False)


class ImageFileSerializer(serializers.Serializer):
    role = serializers.ChoiceField(["kernel", "initrd", "disk", "cdrom"])
    sha256 = serializers.CharField()
    size = serializers.IntegerField(help_text="Bytes.")
    format = serializers.CharField(allow_null=True)
    virtual_bytes = serializers.IntegerField(
        default=None, allow_null=True, help_text="Of a disk: its size as its guest sees it."
    )


class UploadSerializer(serializers.Serializer):
    """Where the content of an image is to be sent, and how much of it is there."""

    url = serializers.SerializerMethodField(help_text="PUT all of it here, in one request.")
    tus_url = serializers.SerializerMethodField(help_text="Or send it in pieces here, by the protocol tus 1.0.")
    size = serializers.IntegerField(allow_null=True)
    received = serializers.IntegerField(help_text="Bytes.")
    expires_at = serializers.DateTimeField(help_text="It is given up unless all of it is there by then.")

    def get_url(self, upload: Any) -> str:
        return f"{self._image(upload)}/file"

    def get_tus_url(self, upload: Any) -> str:
        return f"{self._image(upload)}/upload/file"

    def _image(self, upload: Any) -> str:
        project = self.context["scope"].project
        return absolute(f"/api/v1/projects/{project.name}/images/{upload.image_id}")


class SharedWithSerializer(serializers.Serializer):
    id = serializers.UUIDField(source="project_id")
    name = serializers.CharField(source="project.name")


class ImageSerializer(serializers.Serializer):
    """A guest to launch, in one version."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    version = serializers.CharField()
    labels = LabelsField()
    status = serializers.ChoiceField(Image.Status.values)
    status_reason = serializers.CharField(source="reason")
    visibility = serializers.ChoiceField(Image.Visibility.values, help_text="public: shown in every project.")
    own = serializers.SerializerMethodField(help_text="Whether it is this project's.")
    shared_with = serializers.SerializerMethodField(help_text="For the project that owns it; otherwise empty.")
    protected = serializers.BooleanField()
    deprecated_at = serializers.DateTimeField(allow_null=True)
    trashed_at = serializers.DateTimeField(allow_null=True, help_text="Since when it is in the trash.")
    description = serializers.CharField()
    source = serializers.SerializerMethodField(  # type: ignore[assignment]
        help_text="How it came, for those who own it."
    )
    found = serializers.JSONField(help_text="What its import found inside: format, disks, and the machine of an OVA.")
    os = serializers.CharField()
    architecture = serializers.ChoiceField(Image.Architecture.choices)
    hypervisors = serializers.ListField(child=serializers.CharField(), help_text="The kinds that can run it.")
    firmware = serializers.CharField(help_text="Empty, as those below: what the hypervisor takes by itself.")
    machine_type = serializers.CharField()
    disk_bus = serializers.CharField()
    nic_bus = serializers.CharField()
    min_disk_gib = serializers.IntegerField()
    min_memory_mib = serializers.IntegerField()
    default_user = serializers.CharField()
    cloud_init = serializers.BooleanField(help_text="Whether it has a full cloud-init.")
    size = serializers.IntegerField(help_text="Bytes of all its files.")
    files = ImageFileSerializer(many=True)
    upload = serializers.SerializerMethodField(help_text="While it waits for its content; otherwise null.")
    operation = OperationSerializer(source="live_operation", allow_null=True, help_text="What is under way.")
    created_at = serializers.DateTimeField()

    def get_own(self, image: Image) -> bool:
        return image.project_id is not None and image.project_id == self.context["scope"].project_id

    @extend_schema_field(SharedWithSerializer(many=True))
    def get_shared_with(self, image: Image) -> Any:
        return SharedWithSerializer(image.shares.all(), many=True).data if self.get_own(image) else []

    @extend_schema_field(serializers.DictField())
    def get_source(self, image: Image) -> dict[str, Any]:
        return image.source if self.get_own(image) or self.context["scope"].is_cloud_admin else {}

    @extend_schema_field(UploadSerializer(allow_null=True))
    def get_upload(self, image: Image) -> Any:
        upload = getattr(image, "upload", None)
        if upload is None or upload.completed_at is not None or not self.get_own(image):
            return None
        return UploadSerializer(upload, context=self.context).data
