"""What Prometheus is told about work."""

from django.db.models import Count, Min
from django.db.models.functions import Extract, Now

from cloud.api.metrics import Samples, gauge
from cloud.operations.models import Operation


@gauge("pileus_operations", "Operations by kind and outcome; those under way have none.", ("kind", "outcome"))
def operations() -> Samples:
    counts = Operation.objects.values_list("kind", "outcome").annotate(number=Count("pk")).order_by()
    return [((kind, outcome), number) for kind, outcome, number in counts]


@gauge("pileus_operation_oldest_seconds", "Age of the oldest operation under way, by kind.", ("kind",))
def oldest() -> Samples:
    ages = (
        Operation.objects.filter(finished_at=None)
        .values("kind")
        .annotate(age=Extract(Now() - Min("started_at"), "epoch"))
        .order_by()
    )
    return [((row["kind"],), float(row["age"])) for row in ages]


@gauge("pileus_operation_overdue_seconds", "How long the most neglected operation has been due.")
def overdue() -> Samples:
    late = Operation.objects.filter(finished_at=None, due_at__lt=Now()).aggregate(
        late=Extract(Now() - Min("due_at"), "epoch")
    )["late"]
    return [((), float(late or 0))]
