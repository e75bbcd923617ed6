"""/api/v1/volume-types: everybody reads those of their projects; admins of the cloud change."""

from typing import Any

from django.db.models import Q, QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.fields import Flag, Integer, LabelsField, NameField, ReferencesField, Text
from cloud.api.pagination import Filter
from cloud.api.scope import Scope
from cloud.api.serializers import Body, ReferenceSerializer
from cloud.api.views import Collection, Item, View
from cloud.tenancy.models import Project
from storage.models import VolumeType
from storage.models.types import MAX_IOPS, MAX_MIB_PER_SECOND, MIN_IOPS, PoolKind
from storage.services import volume_types

MAX_PROJECTS = 200


def offered(scope: Scope) -> QuerySet[VolumeType]:
    """What a project may use."""
    assert scope.project is not None
    return volume_types.offered_to(scope.project)


@extend_schema_field({"type": ["string", "number"], "pattern": r"^[0-9](\.[0-9]{1,6})?$", "minimum": 0})
class GibPriceField(serializers.DecimalField):
    """Of one GiB for an hour. Exact: given back as text, taken as text or number."""

    def __init__(self, **options: Any):
        super().__init__(max_digits=7, decimal_places=6, **options)


class VolumeTypeForm(Body):
    name = NameField()
    description = Text(required=False, allow_blank=True)
    labels = LabelsField(required=False)
    iops = Integer(
        min_value=MIN_IOPS, max_value=MAX_IOPS, allow_null=True, required=False,
        help_text="Reads and writes a second; null: no limit. A change holds for its volumes at once.",
    )  # fmt: skip
    mib_per_second = Integer(
        min_value=1, max_value=MAX_MIB_PER_SECOND, allow_null=True, required=False,
        help_text="MiB read and written a second; null: no limit. A change holds for its volumes at once.",
    )  # fmt: skip
    price_per_gib_hour = GibPriceField(min_value=0, required=False)
    pool = serializers.UUIDField(
        allow_null=True, required=False,
        help_text="The shared folder, Ceph pool or storage host of its volumes, by the UUID that hosts list in their "
        "`capabilities`; null: they are on the disk of one host. Fixed while there are volumes of this type.",
    )  # fmt: skip
    rebind = Flag(
        required=False, write_only=True,
        help_text="In a change: whoever says now that it is the storage host `pool` is the right one. A type is bound "
        "to the one host that said so when its place was chosen; say this when that has joined anew.",
    )  # fmt: skip
    default = Flag(
        source="is_default", required=False, help_text="What volumes are of that do not say it; one type is."
    )
    enabled = Flag(required=False, help_text="Whether new volumes can be of it.")
    public = Flag(required=False, help_text="Whether every project may use it; otherwise only `projects`.")
    projects = ReferencesField(
        lambda scope: Project.objects.all(), most=MAX_PROJECTS, required=False,
        help_text="That may use a type which is not public.",
    )  # fmt: skip


class VolumeTypeSerializer(VolumeTypeForm):
    """How fast volumes of this type are, and what they cost."""

    id = serializers.UUIDField()
    pool_kind = serializers.ChoiceField(
        PoolKind.choices, allow_blank=True, help_text="What `pool` is; empty: volumes are on the disk of one host."
    )
    projects = serializers.SerializerMethodField(  # type: ignore[assignment]
        help_text="Shown to admins of the cloud."
    )
    created_at = serializers.DateTimeField()

    @extend_schema_field(ReferenceSerializer(many=True))
    def get_projects(self, volume_type: VolumeType) -> Any:
        """Names of projects are not for everybody."""
        shown = volume_type.projects.all() if self.context["scope"].is_cloud_admin else ()
        return [{"id": str(project.pk), "name": project.name} for project in shown]


class VolumeTypeView(View):
    serializer = VolumeTypeSerializer
    forms = {"POST": VolumeTypeForm, "PATCH": VolumeTypeForm}
    needs_admin = {"POST": True, "PATCH": True, "DELETE": True}

    def rows(self) -> QuerySet[VolumeType]:
        every = VolumeType.objects.prefetch_related("projects")
        if self.scope.is_cloud_admin:
            return every
        return every.filter(Q(public=True) | Q(projects__in=self.scope.projects().values("pk"))).distinct()


class VolumeTypes(VolumeTypeView, Collection):
    filters = {
        "name": Filter(serializers.CharField()),
        "enabled": Filter(serializers.BooleanField()),
        "default": Filter(serializers.BooleanField(), "is_default"),
    }

    def create(self, body: dict[str, Any]) -> VolumeType:
        return volume_types.create(actor=self.actor, wished=body)


class OneVolumeType(VolumeTypeView, Item):
    def change(self, volume_type: VolumeType, body: dict[str, Any]) -> VolumeType:
        """Limits change for all of its volumes at once; the price only for new ones. Another default replaces it."""
        return volume_types.update(volume_type=volume_type, actor=self.actor, changes=body)

    def remove(self, volume_type: VolumeType) -> None:
        """Refused for the default, and while volumes are of it; `enabled: false` takes it out of sight."""
        volume_types.delete(volume_type=volume_type, actor=self.actor)


urlpatterns = [
    path("volume-types", VolumeTypes.as_view()),
    path("volume-types/<str:ref>", OneVolumeType.as_view()),
]
