"""Budgets: what a project means to spend in a month. They warn: in the event log, on the cost page and the overview."""

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from cloud.costs import sums
from cloud.costs.models import Budget
from cloud.events.services import SYSTEM, Actor, record
from cloud.problems import Fault, Invalid, explain_constraint
from cloud.tenancy.models import Project

explain_constraint("budget_is_more_than_nothing", "A budget is more than 0.", pointer="/monthly")
explain_constraint("budget_warns_within_100_percent", "Warn at 1 to 100 percent.", pointer="/warn_percent")


@dataclass(frozen=True)
class State:
    """A budget beside what this month has cost, and will have at its end when nothing changes."""

    budget: Budget
    cost: sums.Cost

    @property
    def percent(self) -> int:
        return int(self.cost.so_far * 100 / self.budget.monthly)

    @property
    def reached(self) -> int:
        """What there is to warn of: 100, the percentage that the budget warns at, or 0."""
        if self.cost.so_far > self.budget.monthly:
            return 100
        return self.budget.warn_percent if self.percent >= self.budget.warn_percent else 0

    @property
    def words(self) -> str:
        """What to say of it; "" when all is well."""
        if self.cost.so_far > self.budget.monthly:
            return "This month has cost more than the budget."
        if self.reached:
            return f"{self.percent} % of this month's budget is spent."
        if self.cost.at_month_end > self.budget.monthly:
            return "At this rate the month will cost more than the budget."
        return ""


def of(project: Project, cost: sums.Cost | None = None) -> State | None:
    """The project's budget beside this month's cost; None without a budget."""
    budget = Budget.objects.filter(project=project).first()
    return State(budget, cost or sums.of(project)) if budget else None


def change(*, project: Project, actor: Actor, **wanted: Any) -> Project:
    """Set `monthly` (None removes the budget), `warn_percent`. A changed one warns again. Raises Invalid."""
    budget = Budget.objects.select_for_update().filter(project=project).first()
    before = _facts(budget)
    if wanted.get("monthly", 0) is None:
        Budget.objects.filter(project=project).delete()
        budget = None
    elif budget is None and "monthly" not in wanted:
        message = "Say how much the project means to spend in a month."
        raise Invalid(message, errors=[Fault("/monthly", message)])
    else:
        again = {"told_month": None, "told_percent": 0}
        budget, _ = Budget.objects.update_or_create(project=project, defaults={**wanted, **again})
    _record("update", project, actor, before=before, after=_facts(budget))
    return project


def warn() -> None:
    """Tell of every budget that has come to its warning, or to its end: of each once a month. Called by the clock."""
    for budget in Budget.objects.select_related("project"):
        state = State(budget, sums.of(budget.project))
        month = state.cost.month.date()
        told = budget.told_percent if budget.told_month == month else 0
        if state.reached <= told:
            continue
        with transaction.atomic():
            # Of two clocks that tick at once, only one finds the row as it was.
            same = Budget.objects.filter(pk=budget.pk, told_month=budget.told_month, told_percent=budget.told_percent)
            if same.update(told_month=month, told_percent=state.reached):
                after = {"monthly": str(budget.monthly), "so_far": f"{state.cost.so_far:.2f}", "percent": state.percent}
                _record("warn", budget.project, SYSTEM, after=after)


def _record(verb: str, project: Project, actor: Actor, **facts: Any) -> None:
    record(f"costs.budget.{verb}", project, actor=actor, project_id=project.pk, **facts)


def _facts(budget: Budget | None) -> dict[str, Any] | None:
    return {"monthly": str(budget.monthly), "warn_percent": budget.warn_percent} if budget else None
