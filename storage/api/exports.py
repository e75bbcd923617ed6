"""/api/v1/projects/{project}/exports: images as files that other programs open. `images/{i}/export` makes one."""

from typing import Any

from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from cloud import outgoing
from cloud.api.addresses import absolute
from cloud.api.pagination import Filter
from cloud.api.scope import Scope
from cloud.api.serializers import Body
from cloud.api.views import Collection, InProject, Item, Verb, View
from cloud.operations.api import OperationSerializer
from cloud.operations.live import live_operation
from cloud.problems import NotFound
from storage.api.image_fields import ImageSerializer
from storage.api.images import ImageView
from storage.importing import EXPORT
from storage.models import Image, ImageExport
from storage.services import exports
from storage.services.images import WrongState
from storage.store import store


def exports_of(scope: Scope) -> QuerySet[ImageExport]:
    return ImageExport.objects.filter(project_id=scope.project_id).annotate(live_operation=live_operation(EXPORT))


class ExportedSerializer(serializers.Serializer):
    """The image that it was made of, as it was called then."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    version = serializers.CharField()


class ExportSerializer(serializers.Serializer):
    """An image as a file of another format, which can be downloaded for a while."""

    id = serializers.UUIDField()
    name = serializers.CharField(help_text="Of the file.")
    format = serializers.ChoiceField(ImageExport.Format.choices)
    image = ExportedSerializer()
    status = serializers.ChoiceField(ImageExport.Status.values)
    status_reason = serializers.CharField(source="reason")
    size = serializers.SerializerMethodField(help_text="Bytes; null until it is ready.")
    sha256 = serializers.SerializerMethodField(help_text="Null until it is ready.")
    url = serializers.SerializerMethodField(help_text="Where it is downloaded, as a whole or in parts (Range).")
    expires_at = serializers.DateTimeField(allow_null=True, help_text="When it is deleted.")
    operation = OperationSerializer(source="live_operation", allow_null=True, help_text="What is under way.")
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()

    @extend_schema_field(serializers.IntegerField(allow_null=True))
    def get_size(self, export: ImageExport) -> int | None:
        return export.file["size"] if export.file else None

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_sha256(self, export: ImageExport) -> str | None:
        return export.file["sha256"] if export.file else None

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_url(self, export: ImageExport) -> str | None:
        return content_url(self.context["scope"].project.name, export) if export.file else None


def content_url(project: str, export: ImageExport) -> str:
    return absolute(f"/api/v1/projects/{project}/exports/{export.pk}/content")


class ExportView(InProject):
    serializer = ExportSerializer

    def rows(self) -> QuerySet[ImageExport]:
        return exports_of(self.scope)


class Exports(ExportView, Collection):
    has_labels = False
    filters = {
        "format": Filter(serializers.ChoiceField(ImageExport.Format.choices)),
        "status": Filter(serializers.ChoiceField(ImageExport.Status.values)),
        "image": Filter(serializers.CharField(help_text="The name of the image."), "image__name"),
    }


class OneExport(ExportView, Item):
    def remove(self, export: ImageExport) -> ImageExport:
        """Its file is removed; one that is being made is ended."""
        return exports.delete(export=export, actor=self.actor)


class ExportContent(ExportView, View):
    """The file."""

    brings_file = True

    def get(self, request: Request, project: str, ref: str) -> HttpResponseBase:
        """All of it, or the part that `Range` asks for. Its SHA-256 is in `X-Content-SHA256`, and is its ETag."""
        export: ImageExport = self.one(ref)
        if export.file is None:
            raise WrongState(f"{export} is not ready. {export.reason}".strip())
        sha256 = export.file["sha256"]
        try:
            file = store().open(sha256)
        except FileNotFoundError:
            raise NotFound(f"The file of {export} is gone from the image store. Export the image again.") from None
        owner = f"project:{export.project_id}"
        return outgoing.answer(request._request.META, file, owner=owner, name=export.name, sha256=sha256)


class ExportForm(Body):
    format = serializers.ChoiceField(
        ImageExport.Format.choices,
        help_text="ova or vmdk for VMware and VirtualBox, vdi for VirtualBox, vhdx for Hyper-V, qcow2 or raw for QEMU.",
    )


class ExportImage(ImageView, Verb):
    serializer = ExportSerializer  # type: ignore[assignment]
    forms = {"POST": ExportForm}

    def act(self, image: Image, body: dict[str, Any]) -> dict[str, Any]:
        """Have a host make a file of it, in a format of another program. Answers with the export."""
        export = exports.begin(image=image, project=self.project, actor=self.actor, **body)
        return self.show(exports_of(self.scope).get(pk=export.pk))

    def show(self, row: Image | ImageExport) -> dict[str, Any]:
        form = ImageSerializer if isinstance(row, Image) else ExportSerializer
        return dict(form(row, context=self.context()).data)


P = "projects/<str:project>"
urlpatterns = [
    path(f"{P}/exports", Exports.as_view()),
    path(f"{P}/exports/<str:ref>", OneExport.as_view()),
    path(f"{P}/exports/<str:ref>/content", ExportContent.as_view()),
    path(f"{P}/images/<str:ref>/export", ExportImage.as_view()),
]
