"""POST …/instances/{instance}/console gives a URL; GET /consoles/{ticket} is that URL, a websocket."""

from typing import Any

from django.conf import settings
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.addresses import absolute
from cloud.api.base import BaseView
from cloud.api.scope import Scope
from cloud.api.serializers import Body
from cloud.api.views import Once, Verb
from cloud.problems import Unavailable
from cloud.streams import handover, handshakes
from cloud.tenancy.models import Role
from compute import consoles
from compute.api.instances import InstanceView
from compute.models import Instance
from compute.services import WrongState


class ConsoleForm(Body):
    kind = serializers.ChoiceField(consoles.KINDS)


class ConsoleSerializer(serializers.Serializer):
    """Where a console can be opened once: a websocket, for the session or token that asked."""

    url = serializers.CharField(allow_null=True, help_text="ws:// or wss://; null in a dry run and in a replay.")
    kind = serializers.ChoiceField(consoles.KINDS)
    expires_at = serializers.DateTimeField()


class OpenConsole(InstanceView, Verb):
    """A URL that opens the console once, within a minute, for the session or token that asked."""

    serializer = ConsoleSerializer  # type: ignore[assignment]
    summaries = {"POST": "Open a console"}
    forms = {"POST": ConsoleForm}

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        kind = self.form()["kind"]
        consoles.require_answer(self.one(kwargs["ref"]), kind)
        return super().post(request, *args, **kwargs)

    def act(self, instance: Instance, body: dict[str, Any]) -> Once:
        holder = _holder(self.scope, self.request)
        ticket = consoles.give_ticket(instance=instance, holder=holder, actor=self.actor, **body)
        url = absolute(f"/api/v1/consoles/{ticket.secret}")
        shown = ConsoleSerializer({"url": None, "kind": ticket.kind, "expires_at": ticket.expires_at}).data
        return Once(dict(shown), "ws" + url.removeprefix("http"), shown_as="url")


@extend_schema(exclude=True)  # OpenAPI has no websockets; docs/api.md tells of it
class Console(BaseView):
    def get(self, request: Request, ticket: str) -> Response:
        """The websocket. Whatever can be wrong with the request is refused before the ticket is used up."""
        by_session = self.scope.token is None
        head = handshakes.handshake(request._request)
        handshakes.require_origin(request._request, [settings.PUBLIC_URL], or_none=not by_session)
        instance, wish = consoles.redeem(ticket, holder=_holder(self.scope, request))
        if not wish or instance.host_id is None:
            raise WrongState(f"{instance.name} has changed since this URL was given out. Ask for another one.")
        self.scope.enter(str(instance.project_id))
        self.scope.require_role(Role.MEMBER)
        self.scope.require_writing()
        handed = handover.open_console(
            request, self.scope, instance.project_id, instance=instance.pk, host=instance.host_id, wish=wish, head=head
        )
        if handed is None:
            raise Unavailable("Consoles are not served at the moment. Ask for another URL.")
        return handed  # type: ignore[return-value]


def _holder(scope: Scope, request: Request) -> str:
    """Who may use a ticket: the very session or token that asked for it."""
    return f"token:{scope.token.pk}" if scope.token else f"session:{request._request.session.session_key}"


urlpatterns = [
    path("projects/<str:project>/instances/<str:ref>/console", OpenConsole.as_view()),
    path("consoles/<str:ticket>", Console.as_view()),
]
