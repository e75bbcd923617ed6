"""What can be wrong with instances."""

from cloud.operations.troubles import MOST_SHOWN, Case, Looked, trouble
from compute.models import Instance
from compute.status import reason, with_status


@trouble("Instances in error", "The reason comes from the host or the last operation. Start tries again; delete works.")
def broken_instances() -> Looked:
    broken = with_status(
        Instance.objects.select_related("machine__host", "project").defer("user_data", "placement")
    ).filter(status="error", trashed_at=None)
    found = list(broken.order_by("created_at", "id")[: MOST_SHOWN + 1])
    count = len(found) if len(found) <= MOST_SHOWN else broken.count()
    return count, [
        Case("instance", str(row.pk), row.name, reason(row), row.failed_at or row.seen_at, row.project.name)
        for row in found[:MOST_SHOWN]
    ]
