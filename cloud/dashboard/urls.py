"""The pages that show several apps at once."""

from django.urls import path

from cloud.dashboard.views import cloud, components, guides, project, reference, trash

T = "projects/<str:project>/trash/<slug:kind>/<uuid:ident>"

urlpatterns = [
    path("", project.Home.as_view(), name="home"),
    path("cloud", cloud.CloudOverview.as_view(), name="cloud"),
    path("api/v1/docs", reference.ApiReference.as_view(), name="api-docs"),
    path("help", guides.Help.as_view(), name="help"),
    path("help/<slug:guide>", guides.OneGuide.as_view(), name="guide"),
    path("design", components.Components.as_view(), name="components"),
    path("projects/<str:project>", project.Overview.as_view(), name="overview"),
    path("projects/<str:project>/getting-started", project.GettingStarted.as_view(), name="getting-started"),
    path("projects/<str:project>/trash", trash.Trash.as_view(), name="trash"),
    path(
        "projects/<str:project>/trash/<slug:kind>/<uuid:ident>/restore",
        trash.Restore.as_view(),
        name="restore-from-trash",
    ),
    path("projects/<str:project>/trash/<slug:kind>/<uuid:ident>/purge", trash.Purge.as_view(), name="purge-from-trash"),
]
