"""The status that a user sees: derived, one SQL CASE, first match wins. Filters and lists use the same."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from django.db.models import (
    BooleanField,
    Case,
    CharField,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Coalesce

from cloud.hosts.models import HostPulse
from cloud.hosts.room import ROOM
from cloud.hosts.silence import reachable_since
from cloud.operations.live import live_kind, live_operation
from cloud.operations.models import Operation
from cloud.queries import Prepared
from compute.models import Instance, Power
from compute.verbs import LAUNCH, PURGE, VERBS, WORK

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

STEADY = (Power.RUNNING, Power.PAUSED, Power.SUSPENDED, Power.STOPPED)
TRANSITIONAL = {work.workflow.kind: work.status for work in WORK if work.status}  # kind of operation → status
QUEUED = "queued"  # a launch that waits for room
STATUSES = tuple(dict.fromkeys((QUEUED, *TRANSITIONAL.values(), *STEADY, "error", "unreachable")))
LISTED = (
    "name", "labels", "project", "flavor__name", "vcpus", "memory_mib", "disk_gib", "price_per_hour", "image__name",
    "image__default_user", "machine__hypervisor", "hypervisor_wish", "machine__host__name", "keypairs", "ssh_host_key",
    "restart_policy", "wanted_power", "machine__seen", "machine__seen_problem", "failed_at", "failed_reason",
    "gave_up", "created_by", "created_at", "protected", "trashed_at", "password_reset", "cd__name", "cd_drive",
    "hardware",  # says which verbs it has
    "snapshot", "clone_of_snapshot",
)  # fmt: skip


class StatusAnnotations(TypedDict):
    """What `with_status` adds to an instance."""

    live_operation: dict[str, Any] | None
    live_kind: str | None
    host_is_unreachable: bool
    status: str


def with_status(instances: "QuerySet[Instance]") -> "QuerySet[WithAnnotations[Instance, StatusAnnotations]]":
    """Annotate `status`, `live_operation` (its JSON, or null) and `host_is_unreachable`: no further query a row."""
    live = Operation.objects.filter(subject_type="instance", subject_id=OuterRef("pk"), finished_at=None)
    # One look at the live operation for all of these words.
    on_its_way = Case(
        When(kind=LAUNCH.workflow.kind, waits_for__contains=[str(ROOM)], then=Value(QUEUED)),
        *(When(kind=kind, then=Value(word)) for kind, word in TRANSITIONAL.items()),
        default=None,
    )
    return instances.annotate(
        live_operation=live_operation("instance"),
        live_kind=live_kind("instance"),
        host_is_unreachable=_host_is_unreachable(),
    ).annotate(
        status=Case(
            When(live_kind__in=[VERBS["delete"].workflow.kind, PURGE.workflow.kind], then=Value("deleting")),
            When(host_is_unreachable=True, then=Value("unreachable")),
            default=Coalesce(Subquery(live.values(word=on_its_way)[:1], output_field=CharField()), _standing()),
            output_field=CharField(),
        )
    )


def as_listed(instances: "QuerySet[Instance]", *more: str) -> "QuerySet[WithAnnotations[Instance, StatusAnnotations]]":
    """With all that a list shows, these columns too, and nothing else: most of what a row holds is for its host."""
    return with_status(instances.select_related("flavor", "image", "cd", "machine__host").only(*LISTED, *more))


def count_by_status(instances: "QuerySet[Instance]") -> dict[str, int]:
    """How many are in each status that occurs, in the order of the documentation."""
    return _added_up(_count_calm(instances), _count_busy(instances))


def count_of_project(project_id: UUID) -> dict[str, int]:
    """The same of a project, without what is in its trash, by queries that are prepared."""
    return _added_up(_calm_of_project.tuples(project_id), _busy_of_project.tuples(project_id))


def _added_up(*counted: Iterable[tuple[str, int]]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for one in counted:
        counts.update(dict(one))
    return {status: counts[status] for status in STATUSES if counts[status]}


# Only those with a live operation are asked for it: looking for one at each of ten thousand is what would take long.
def _count_calm(instances: "QuerySet[Instance]") -> "QuerySet[Any, tuple[str, int]]":
    standing = Case(When(_host_is_unreachable(), then=Value("unreachable")), default=_standing())
    return _counted(instances.exclude(pk__in=_with_work()).annotate(status=standing))


def _count_busy(instances: "QuerySet[Instance]") -> "QuerySet[Any, tuple[str, int]]":
    return _counted(with_status(instances.filter(pk__in=_with_work())))


def _counted(instances: "QuerySet[Any]") -> "QuerySet[Any, tuple[str, int]]":
    counts: QuerySet[Any, tuple[str, int]] = instances.order_by().values("status").annotate(count=Count("pk"))
    return counts.values_list("status", "count")


def _with_work() -> "QuerySet[Any]":
    return Operation.objects.filter(subject_type="instance", finished_at=None).values("subject_id")


@Prepared
def _calm_of_project(project: Any) -> "QuerySet[Any]":
    return _count_calm(Instance.objects.filter(project=project, trashed_at=None))


@Prepared
def _busy_of_project(project: Any) -> "QuerySet[Any]":
    return _count_busy(Instance.objects.filter(project=project, trashed_at=None))


def _host_is_unreachable() -> ExpressionWrapper:
    silent = HostPulse.objects.filter(host_id=OuterRef("machine__host_id"), seen_at__lt=reachable_since())
    return ExpressionWrapper(Exists(silent), output_field=BooleanField())


def _standing() -> Case:
    """The status of what nothing is done with."""
    return Case(
        When(Q(failed_at__isnull=False) | ~Q(gave_up="") | Q(machine__seen=Power.BROKEN), then=Value("error")),
        When(machine=None, wanted_power=Power.STOPPED, then=Value("stopped")),  # and has no place yet
        When(machine__seen__in=STEADY, then=F("machine__seen")),
        default=Value("error"),
        output_field=CharField(),
    )


def reason(instance: Instance) -> str:
    """Why the status is what it is, in words; empty when there is nothing to say."""
    status = getattr(instance, "status", "")
    live = getattr(instance, "live_operation", None)
    if status == "unreachable":
        return "Its host has not been heard from. Nothing is started elsewhere: it may still be running."
    if live:
        return str(live["reason"] or "")
    if instance.failed_at:
        return instance.failed_reason
    if instance.gave_up:
        return instance.gave_up
    if status == "error":
        return instance.seen_problem or "What its host sees is not what is wanted; it is being repaired."
    return instance.seen_problem
