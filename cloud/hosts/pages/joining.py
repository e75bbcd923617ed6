"""How a machine becomes a host: tokens to join with, each good for one machine."""

from typing import Any

from django.conf import settings
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.hosts import services
from cloud.hosts.models import JoinToken
from cloud.pages.base import Page
from cloud.pages.generic import VerbPage

MAX_TOKENS = 50


class NewHost(Page):
    """The one command that makes a machine a host. Its token is shown once; those that are still good are listed."""

    template = "hosts/new.html"
    section = "hosts"
    help = "operating#several-machines"
    for_cloud_admins = True

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.show(self.fill())

    def post(self, request: HttpRequest) -> HttpResponse:
        return self.mutate(
            lambda: services.make_join_token(actor=self.scope.actor), to=reverse("new-host"), secret=self.show_command
        )

    def fill(self) -> dict[str, Any]:
        usable = JoinToken.objects.filter(used_at=None, expires_at__gt=Now()).order_by("-created_at")
        return {"tokens": list(usable[:MAX_TOKENS])}

    def show_command(self, made: tuple[JoinToken, str]) -> HttpResponse:
        token, secret = made
        command = f"pileus-agent join {settings.PUBLIC_URL} {secret}"
        return self.show({**self.fill(), "token": token, "command": command})


class RevokeJoinToken(VerbPage):
    model, key, listed_at = JoinToken, "token", "new-host"
    for_cloud_admins = True

    def act(self) -> None:
        services.revoke_join_token(self.item, actor=self.scope.actor)

    def done(self, result: None) -> str:
        return "No machine can join with it any more."
