"""What instances count for in a project's quota. A failed launch has given everything back, and counts nothing;
nor does what is in the trash."""

from uuid import UUID

from django.db.models import QuerySet

from cloud.tenancy import quota
from compute.models import Instance, KeyPair


def _live(project_id: UUID) -> "QuerySet[Instance]":
    return Instance.objects.filter(project_id=project_id, failed_at=None, trashed_at=None)


quota.register("instances", _live)
quota.register("vcpus", _live, sum_of="vcpus")
quota.register("memory_mib", _live, sum_of="memory_mib")
quota.register("keypairs", lambda project_id: KeyPair.objects.filter(project_id=project_id))
