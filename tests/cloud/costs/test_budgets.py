"""Budgets warn, each once a month, and stop nothing; costs are told by kind and by label."""

from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from cloud.costs import budgets, sums
from cloud.costs.models import Budget, Rental
from cloud.events.models import Event
from cloud.events.services import Actor
from cloud.tenancy.models import Role
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
ADA = Actor("ada")
set_to = transaction.atomic(budgets.change)


@pytest.fixture
def spent(project):
    """Makes the project have spent so much this month, on something with these labels."""

    def spend(hours, name="web", **labels):
        with connection.cursor() as cursor:
            cursor.execute("SELECT date_trunc('month', now(), 'UTC')")
            begun = cursor.fetchone()[0]
        Rental.objects.create(
            project=project,
            resource_type="instance",
            resource_id=project.pk if name == "web" else factories.project().pk,
            name=name,
            size="small",
            labels=labels,
            price_per_hour=hours * 3600,  # for the first second of the month
            began_at=begun,
            ended_at=begun + sums.timedelta(seconds=1),
        )

    return spend


def warnings():
    return Event.objects.filter(action="costs.budget.warn").count()


def test_a_budget_warns_once_when_it_is_nearly_spent_and_once_when_it_is(project, spent):
    set_to(project=project, actor=ADA, monthly=Decimal(100))
    spent(79)
    budgets.warn()
    assert (warnings(), budgets.of(project).words) == (0, "")
    spent(2, "db")
    budgets.warn()
    budgets.warn()
    assert (warnings(), budgets.of(project).words) == (1, "81 % of this month's budget is spent.")
    spent(20, "more")
    budgets.warn()
    budgets.warn()
    assert (warnings(), budgets.of(project).words) == (2, "This month has cost more than the budget.")


def test_last_months_warning_does_not_silence_this_months(project, spent):
    set_to(project=project, actor=ADA, monthly=Decimal(10))
    spent(11)
    Budget.objects.update(told_month=Now() - sums.timedelta(days=40), told_percent=100)
    budgets.warn()
    assert warnings() == 1


def test_costs_are_told_by_kind_and_by_label(project, spent):
    spent(3, "web", tier="front")
    spent(1, "db", tier="back")
    spent(2, "cache")
    told = [(part.name, round(part.cost), part.count) for part in sums.by_label(project, "tier")]
    assert told == [("front", 3, 1), ("", 2, 1), ("back", 1, 1)]
    assert [(part.name, round(part.cost), part.count) for part in sums.by_type(project)] == [("instance", 6, 3)]
    assert sums.label_keys(project) == ["tier"]


def test_a_budget_is_set_and_removed_by_admins_of_the_project(api, project, project_admin, member):
    path = f"projects/{project.name}/budget"
    assert api.as_(member).patch(path, {"monthly": "10"}).status_code == 403
    admin = api.as_(project_admin)
    refused = admin.patch(path, {"warn_percent": 50}).json()
    assert refused["errors"][0]["pointer"] == "/monthly"
    assert admin.patch(path, {"monthly": "0"}).json()["errors"][0]["message"] == "A budget is more than 0."
    made = admin.patch(path, {"monthly": "10", "warn_percent": 50}).json()
    assert (made["monthly"], made["warn_percent"], made["currency"]) == ("10.0000", 50, "EUR")
    assert admin.patch(path, {"monthly": None}).json()["monthly"] is None
    assert api.as_(factories.member(project, Role.VIEWER, "vera")).get(path).json()["monthly"] is None
