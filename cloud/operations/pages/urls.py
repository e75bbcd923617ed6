"""The pages of work and of the cloud's health."""

from django.urls import path

from cloud.operations.pages import health, operations

urlpatterns = [
    path(
        "projects/<str:project>/operations/<uuid:operation>/cancel",
        operations.CancelOperation.as_view(),
        name="cancel",
    ),
    path("cloud/operations", operations.CloudOperations.as_view(), name="cloud-operations"),
    path("cloud/health", health.Health.as_view(), name="health"),
    path("cloud/health/<uuid:ident>/repair", health.Repair.as_view(), name="repair"),
]
