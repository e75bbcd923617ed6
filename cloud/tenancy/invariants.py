"""What must always hold of tenants: nobody uses more than the quota allows, and no key stands for two results."""

from collections.abc import Iterator

from cloud.api.models import IdempotencyKey
from cloud.operations.invariants import Breach, invariant
from cloud.tenancy import quota
from cloud.tenancy.models import Project


@invariant("I5", "Quota usage is counted right, and within the limit")
def quotas_hold() -> Iterator[Breach]:
    for project in Project.objects.order_by("name"):
        for kind, use in quota.usage(project).items():
            if use["limit"] is not None and use["used"] > use["limit"]:
                words = f"{project}: {use['used']} {kind} used, {use['limit']} allowed"
                yield Breach(f"{words}. Raise the limit, or ask the tenant to delete some.", str(project.pk))


@invariant("I8", "An idempotency key has one result")
def keys_have_results() -> Iterator[Breach]:
    for key in IdempotencyKey.objects.filter(status=0):
        yield Breach(f"a key of {key.caller} was kept without its answer", str(key.pk))
