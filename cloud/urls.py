"""The roof: every URL of the cloud. Each app brings those of its own resources."""

from django.urls import URLPattern, URLResolver, include, path

api: list[URLPattern | URLResolver] = [
    path("", include("cloud.api.documentation")),
    path("", include("cloud.tenancy.api.urls")),
    path("", include("cloud.operations.api.urls")),
    path("", include("cloud.events.api.urls")),
    path("", include("cloud.hosts.api.urls")),
    path("", include("cloud.costs.api.urls")),
    path("", include("compute.api.urls")),
    path("", include("storage.api.urls")),
    path("", include("network.api.urls")),
]
pages: list[URLPattern | URLResolver] = [
    path("", include("cloud.pages.urls")),
    path("", include("cloud.tenancy.pages.urls")),
    path("", include("cloud.events.pages.urls")),
    path("", include("cloud.operations.pages.urls")),
    path("", include("cloud.hosts.pages.urls")),
    path("", include("cloud.costs.pages.urls")),
    path("", include("storage.pages.urls")),
    path("", include("network.pages.urls")),
    path("", include("compute.pages.urls")),
    path("", include("cloud.dashboard.urls")),
]
urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("cloud.api.health")),
    path("api/v1/", include(api)),
    path("agent/v1/", include("cloud.hosts.agent_api.urls")),
    path("agent/v1/", include("compute.api.agent")),
    path("agent/v1/", include("storage.api.agent")),
    path("agent/v1/", include("storage.api.agent_backups")),
    path("agent/v1/", include("storage.api.agent_transfers")),
    path("agent/v1/", include("storage.api.agent_peers")),
    path("", include(pages)),
]
handler400 = "cloud.pages.refusals.bad_request"
handler403 = "cloud.pages.refusals.forbidden"
handler404 = "cloud.pages.refusals.not_found"
handler500 = "cloud.pages.refusals.server_error"
