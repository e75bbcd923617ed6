"""/api/v1/projects/{project}/budget"""

from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.serializers import Body
from cloud.api.views import InProject, View, conditional
from cloud.costs import budgets
from cloud.costs.api.costs import Money
from cloud.tenancy.models import Project, Role


class BudgetSerializer(serializers.Serializer):
    """What a project means to spend in a month (UTC), beside what this one has cost."""

    currency = serializers.CharField()
    monthly = Money(allow_null=True, help_text="Null: there is no budget.")
    warn_percent = serializers.IntegerField(allow_null=True)
    so_far = Money(allow_null=True)
    at_month_end = Money(allow_null=True)
    warning = serializers.CharField(help_text="Empty when all is well.")


class BudgetForm(Body):
    monthly = serializers.DecimalField(
        max_digits=12, decimal_places=2, min_value=0, allow_null=True, help_text="Null removes the budget."
    )
    warn_percent = serializers.IntegerField(min_value=1, max_value=100, required=False)


class ProjectBudget(InProject, View):
    """The project's budget. It warns, and stops nothing."""

    serializer = BudgetSerializer
    forms = {"PATCH": BudgetForm}
    roles = {"PATCH": Role.ADMIN}

    def rows(self) -> QuerySet[Project]:
        return Project.objects.filter(pk=self.scope.project_id)

    def one(self, reference: str, *, name: str = "") -> Project:
        return self.rows().get()

    def show(self, row: Project) -> dict[str, Any]:
        found = budgets.of(row)
        facts: dict[str, Any] = {
            "monthly": None,
            "warn_percent": None,
            "so_far": None,
            "at_month_end": None,
            "warning": "",
        }
        if found:
            facts = {
                "monthly": found.budget.monthly,
                "warn_percent": found.budget.warn_percent,
                "so_far": found.cost.so_far,
                "at_month_end": found.cost.at_month_end,
                "warning": found.words,
            }
        return dict(BudgetSerializer({"currency": settings.CURRENCY, **facts}).data)

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        self.query()
        return conditional(request, self.show(self.one("")))

    def patch(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.mutate(
            lambda: budgets.change(project=self.project, actor=self.actor, **self.form(partial=True)), target=""
        )
