"""/api/v1/notifications: what has come of what the caller has asked for."""

from typing import Any

from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.views import View
from cloud.operations.api.serializers import SubjectSerializer
from cloud.tenancy import notifications


class NotificationSerializer(serializers.Serializer):
    """Work that has ended, or an answer."""

    id = serializers.UUIDField(help_text="Of the operation, or of the request.")
    kind = serializers.CharField(help_text="Of the operation, or `quota_request`.")
    subject = SubjectSerializer()
    project = serializers.CharField(help_text="Its name.")
    outcome = serializers.CharField()
    reason = serializers.CharField()
    at = serializers.DateTimeField()
    unread = serializers.BooleanField(help_text="News since the caller last looked: it failed, or others did it.")
    by = serializers.CharField(help_text="Who began it, if somebody else.")


class NotificationsSerializer(serializers.Serializer):
    unread = serializers.IntegerField()
    items = NotificationSerializer(many=True, help_text="The latest, the newest first.")


class Notifications(View):
    """What has ended of what the caller began, what others did with the caller's resources, and how much is unread."""

    serializer = NotificationsSerializer

    def get(self, request: Request) -> Response:
        self.query()
        return Response(self.show(shown(self.scope.user)))


class Seen(View):
    """The caller has looked: nothing is unread."""

    serializer = NotificationsSerializer
    summaries = {"POST": "Mark the notifications as read"}

    def post(self, request: Request) -> Response:
        def look() -> dict[str, Any]:
            self.form()
            notifications.mark_as_seen(self.scope.user)
            return self.show(shown(self.scope.user))

        return self.mutate(look)


def shown(user: Any) -> dict[str, Any]:
    return {"unread": notifications.bell(user)[0], "items": notifications.latest(user)}


urlpatterns = [
    path("notifications", Notifications.as_view()),
    path("notifications/seen", Seen.as_view()),
]
