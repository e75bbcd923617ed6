"""What a project costs: by month, by kind of resource, by label, and beside its budget."""

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import HttpResponse

from cloud.costs import budgets, sums
from cloud.costs.api.budgets import BudgetForm
from cloud.costs.api.costs import MONTH
from cloud.pages import forms
from cloud.pages.base import FormPage
from cloud.tenancy.models import Role


class Costs(FormPage):
    """A month's cost, and the form of the budget."""

    template = "costs/costs.html"
    section = "costs"
    help = "projects#costs"
    role_to_change = Role.ADMIN

    def fill(self) -> dict[str, Any]:
        asked = MONTH.fullmatch(self.request.GET.get("month", ""))
        month = datetime(int(asked[1]), int(asked[2]), 1, tzinfo=UTC) if asked else None
        cost = sums.of(self.project, month=month, items=sums.MAX_ITEMS)
        this_month = cost if month is None else sums.of(self.project)
        keys = sums.label_keys(self.project, month)
        key = self.request.GET.get("label", "")
        key = key if key in keys else next(iter(keys), "")
        return {
            "cost": cost,
            "is_now": cost.month == this_month.month,
            "before": sums.previous(cost.month),
            "after": sums.following(cost.month) if cost.month < this_month.month else None,
            "types": sums.by_type(self.project, month),
            "label_keys": keys,
            "label": key,
            "labels": sums.by_label(self.project, key, month) if key else [],
            "budget": budgets.of(self.project, this_month),
            "currency": settings.CURRENCY,
        }

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        if post.get("how") == "remove":
            return {"monthly": None}
        return {**forms.required(post, "monthly"), **forms.whole(post, "warn_percent")}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        return self.mutate(
            lambda: budgets.change(
                project=self.project, actor=self.scope.actor, **self.validate(BudgetForm, body, partial=True)
            ),
            body=body,
            to=self.request.get_full_path(),
            done="The budget is removed." if body["monthly"] is None else "The budget is set.",
        )
