"""/api/v1/projects/{project}/images: the project's own, and the public ones of the cloud."""

from django.db.models import Q, QuerySet
from django.urls import path
from rest_framework import serializers

from cloud.api.fields import LabelsField
from cloud.api.pagination import Filter
from cloud.api.scope import Scope
from cloud.api.views import Collection, InProject, Item
from storage.models import Image


class ImageFileSerializer(serializers.Serializer):
    role = serializers.ChoiceField(["kernel", "initrd", "disk"])
    sha256 = serializers.CharField()
    size = serializers.IntegerField(help_text="Bytes.")
    format = serializers.CharField(allow_null=True)


class ImageSerializer(serializers.Serializer):
    """A guest to launch."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    labels = LabelsField()
    public = serializers.SerializerMethodField(help_text="Whether it is the cloud's own, shown in every project.")
    description = serializers.CharField()
    os = serializers.CharField()
    version = serializers.CharField()
    architecture = serializers.ChoiceField(Image.Architecture.choices)
    hypervisors = serializers.ListField(child=serializers.CharField(), help_text="The kinds that can run it.")
    min_disk_gib = serializers.IntegerField()
    min_memory_mib = serializers.IntegerField()
    default_user = serializers.CharField()
    size = serializers.IntegerField(help_text="Bytes of all its files.")
    files = ImageFileSerializer(many=True)
    created_at = serializers.DateTimeField()

    def get_public(self, image: Image) -> bool:
        return image.project_id is None


def visible(scope: Scope) -> QuerySet[Image]:
    """The images that instances of the scope's project may be launched from."""
    return Image.objects.filter(Q(project_id=scope.project_id) | Q(project=None))


class ImageView(InProject):
    serializer = ImageSerializer

    def rows(self) -> QuerySet[Image]:
        return visible(self.scope)


class Images(ImageView, Collection):
    filters = {
        "name": Filter(serializers.CharField()),
        "architecture": Filter(serializers.ChoiceField(Image.Architecture.choices)),
        "os": Filter(serializers.CharField()),
    }


class OneImage(ImageView, Item):
    pass


urlpatterns = [
    path("projects/<str:project>/images", Images.as_view()),
    path("projects/<str:project>/images/<str:ref>", OneImage.as_view()),
]
