"""What can be wrong with instances."""

from typing import Any

from django.db.models import Q, QuerySet, TextField, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce

from cloud.hosts.hosted import BROKEN
from cloud.operations.live import last_fix_by
from cloud.operations.models import FixBy
from cloud.operations.troubles import MAX_SHOWN, Case, Looked, trouble
from compute.models import Instance
from compute.status import reason, with_status


def _of_operators(broken: "QuerySet[Any]") -> "QuerySet[Any]":
    """Without those whose users can fix them, and are told so on their pages."""
    said = Coalesce(KeyTextTransform("fix_by", "machine__seen_facts"), Value(""), output_field=TextField())
    told = broken.annotate(fix_by=last_fix_by("instance"), said=said)
    ended = Q(failed_at__isnull=False) | ~Q(gave_up="")
    left: QuerySet[Any] = told.exclude(ended, fix_by__in=(FixBy.YOU, FixBy.NOBODY))
    return left.exclude(machine__seen=BROKEN, said=FixBy.YOU)


@trouble("Instances in error", "The reason comes from the host or the last operation. Start tries again; delete works.")
def broken_instances() -> Looked:
    every = with_status(Instance.objects.select_related("machine__host", "project").defer("user_data", "placement"))
    broken = _of_operators(every.filter(status="error", trashed_at=None))
    found = list(broken.order_by("created_at", "id")[: MAX_SHOWN + 1])
    count = len(found) if len(found) <= MAX_SHOWN else broken.count()
    return count, [
        Case("instance", str(row.pk), row.name, reason(row), row.failed_at or row.seen_at, row.project.name)
        for row in found[:MAX_SHOWN]
    ]
