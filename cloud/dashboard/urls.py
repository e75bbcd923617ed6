"""The pages that show several apps at once."""

from django.urls import path

from cloud.dashboard.views import components, project

urlpatterns = [
    path("", project.Home.as_view(), name="home"),
    path("design", components.Components.as_view(), name="components"),
    path("projects/<str:project>", project.Overview.as_view(), name="overview"),
    path("projects/<str:project>/getting-started", project.GettingStarted.as_view(), name="getting-started"),
]
