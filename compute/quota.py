"""What instances count for in a project's quota. A failed launch has given everything back, and counts nothing;
nor does what is in the trash, but for the disks that it keeps."""

from typing import Any
from uuid import UUID

from django.db.models import IntegerField, OuterRef, QuerySet, Subquery, Value
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Greatest

from cloud.operations.models import Operation
from cloud.tenancy import quota
from compute.models import Instance, KeyPair
from compute.workflows import ResizeInstance


def _live(project_id: UUID) -> "QuerySet[Instance]":
    return Instance.objects.filter(project_id=project_id, failed_at=None, trashed_at=None)


def _with_disk(project_id: UUID) -> "QuerySet[Instance]":
    return Instance.objects.filter(project_id=project_id, failed_at=None)


def _more_before(project_id: UUID) -> "QuerySet[Operation]":
    """How much more the instances that are being resized had before: a cancel leads back to that."""
    resizes = Operation.objects.filter(project_id=project_id, kind=ResizeInstance.kind, finished_at=None)
    present = Instance.objects.filter(pk=OuterRef("subject_id"))

    def more(name: str) -> Any:
        before = Cast(KT(f"before__size__{name}"), IntegerField())
        return Greatest(before - Subquery(present.values(name), output_field=IntegerField()), Value(0))

    return resizes.annotate(vcpus=more("vcpus"), memory_mib=more("memory_mib"))


quota.register("instances", _live)
quota.register("vcpus", _live, _more_before, sum_of="vcpus")
quota.register("memory_mib", _live, _more_before, sum_of="memory_mib")
quota.register("disk_gib", _with_disk, sum_of="disk_gib")
quota.register("keypairs", lambda project_id: KeyPair.objects.filter(project_id=project_id))
