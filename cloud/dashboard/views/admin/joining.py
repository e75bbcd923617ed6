"""How a machine becomes a host: tokens to join with, each good for one machine."""

from typing import Any

from django.conf import settings
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.api.errors import NotFound
from cloud.hosts import services
from cloud.hosts.models import JoinToken
from cloud.pages.base import Page

MOST_TOKENS = 50


class NewHost(Page):
    """The one command that makes a machine a host. Its token is shown once; those that are still good are listed."""

    template = "dashboard/admin/new_host.html"
    section = "hosts"
    for_cloud_admins = True

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.show(self.fill())

    def post(self, request: HttpRequest) -> HttpResponse:
        return self.mutate(
            lambda: services.make_join_token(actor=self.scope.actor), to=reverse("new-host"), secret=self.show_command
        )

    def fill(self) -> dict[str, Any]:
        usable = JoinToken.objects.filter(used_at=None, expires_at__gt=Now()).order_by("-created_at")
        return {"tokens": list(usable[:MOST_TOKENS])}

    def show_command(self, made: tuple[JoinToken, str]) -> HttpResponse:
        token, secret = made
        command = f"pileus-agent join {settings.PUBLIC_URL} {secret}"
        return self.show({**self.fill(), "token": token, "command": command})


class RevokeJoinToken(Page):
    for_cloud_admins = True

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        found = JoinToken.objects.filter(pk=token).first()
        if found is None:
            raise NotFound()
        return self.mutate(
            lambda: services.revoke_join_token(found, actor=self.scope.actor),
            to=reverse("new-host"),
            done="No machine can join with it any more.",
        )
