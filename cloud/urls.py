"""The roof: every URL of the cloud."""

from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/v1/", include([path("", include("compute.api.urls")), path("", include("storage.api.urls"))])),
    path("agent/v1/", include("cloud.hosts.agent_api.urls")),
]
handler500 = "cloud.api.middleware.server_error"
