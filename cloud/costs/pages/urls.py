from django.urls import path

from cloud.costs.pages import costs

urlpatterns = [
    path("projects/<str:project>/costs", costs.Costs.as_view(), name="costs"),
]
