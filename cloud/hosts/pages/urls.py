"""The pages of hosts."""

from django.urls import path

from cloud.hosts.pages import hosts, joining

urlpatterns = [
    path("cloud/hosts", hosts.Hosts.as_view(), name="hosts"),
    path("cloud/hosts/new", joining.NewHost.as_view(), name="new-host"),
    path("cloud/hosts/join-tokens/<uuid:token>/revoke", joining.RevokeJoinToken.as_view(), name="revoke-join-token"),
    path("cloud/hosts/<uuid:host>", hosts.OneHost.as_view(), name="host"),
    path("cloud/hosts/<uuid:host>/settings", hosts.HostSettings.as_view(), name="host-settings"),
    path("cloud/hosts/<uuid:host>/declare-lost", hosts.DeclareLost.as_view(), name="declare-lost"),
    path("cloud/hosts/<uuid:host>/change", hosts.ChangeHost.as_view(), name="change-host"),
]
