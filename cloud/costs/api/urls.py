from django.urls import path

from cloud.costs.api.budgets import ProjectBudget
from cloud.costs.api.costs import CostView

urlpatterns = [
    path("projects/<str:project>/cost", CostView.as_view()),
    path("projects/<str:project>/budget", ProjectBudget.as_view()),
]
