"""/api/v1/sessions: where the caller is signed in; /api/v1/users/{user}/second-factor: for admins, who reset it."""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.fields import as_uuid
from cloud.api.views import Collection, Item
from cloud.problems import NotFound
from cloud.tenancy import second_factor, sessions
from cloud.tenancy.api.users import UserView
from cloud.tenancy.models import BrowserSession


class SessionSerializer(serializers.Serializer):
    """A browser that is signed in."""

    id = serializers.UUIDField()
    browser = serializers.CharField(help_text="As it calls itself.")
    address = serializers.CharField()
    created_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField(help_text="To some minutes.")


class SessionView(Item):
    serializer = SessionSerializer

    def rows(self) -> QuerySet[BrowserSession]:
        return sessions.of(self.scope.user)


class Sessions(Collection):
    """The latest first."""

    serializer = SessionSerializer
    order = ("-last_seen_at", "-id")
    has_labels = False

    def rows(self) -> QuerySet[BrowserSession]:
        return sessions.of(self.scope.user)


class OneSession(SessionView):
    """A browser in which the caller is signed in."""

    def one(self, reference: str, *, name: str = "") -> BrowserSession:
        ident = as_uuid(reference)
        found = self.rows().filter(pk=ident).first() if ident else None
        if found is None:
            raise NotFound()
        return found

    def remove(self, session: BrowserSession) -> None:
        """Signs out there."""
        ended = BrowserSession.objects.filter(pk=session.pk)
        sessions.end(sessions=ended, user=self.scope.user, actor=self.actor)


class UserSecondFactor(UserView):
    """Switched off for somebody who has lost the device and the recovery codes."""

    needs_admin = {"DELETE": True}
    summaries = {"DELETE": "Switch off the second factor"}

    def delete(self, request: Request, ref: str) -> Response:
        def switch_off() -> None:
            second_factor.switch_off(user=self.one(ref, name="username"), actor=self.actor)

        return self.mutate(switch_off, target=None)


urlpatterns: list[Any] = [
    path("sessions", Sessions.as_view()),
    path("sessions/<str:ref>", OneSession.as_view()),
    path("users/<str:ref>/second-factor", UserSecondFactor.as_view()),
]
