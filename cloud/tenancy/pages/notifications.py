"""The bell: what failed, what others did with one's resources, and answers, unread since one last looked."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from cloud.pages import following, links, navigation
from cloud.pages.base import Page
from cloud.tenancy import notifications
from cloud.tenancy.notifications import Notification

MAX_TOASTS = 3


def place_of(notice: Notification) -> str:
    """The page about what it concerns, if there is still one."""
    if notice.kind.endswith(".delete") and notice.outcome == "done":
        return ""
    return links.of(notice.subject["type"], notice.subject["id"], notice.project)


class Notifications(Page):
    """Looking at the page is having looked. The bell alone is fetched when some work has ended."""

    template = "tenancy/notifications.html"
    partials = {"bell": "pages/_bell.html"}
    section = "notifications"
    help = "projects#activity"

    def get(self, request: HttpRequest) -> HttpResponse:
        user: Any = self.scope.user
        if request.headers.get("HX-Target") == "bell":
            return self.ring(user)
        notices = [(notice, place_of(notice)) for notice in notifications.latest(user)]
        notifications.mark_as_seen(user)
        return self.show({"notices": notices})

    def ring(self, user: Any) -> HttpResponse:
        """The bell as it is now, the toasts about the viewer's own work, and one for each piece of news since then."""
        unread, now = notifications.bell(user)
        try:
            after = parse_datetime(self.request.GET.get("after", ""))
        except ValueError:
            after = None
        followed = following.followed(self.request)
        told = {one.id for one in followed}
        fresh = notifications.latest(user, after=after) if after and timezone.is_aware(after) else []
        news = [notice for notice in fresh if notice.is_news and str(notice.id) not in told]
        return self.show(
            {
                "unread": unread,
                "bell_at": now,
                "toasts": [(notice, place_of(notice)) for notice in news[:MAX_TOASTS]],
                "followed": followed,
                "replaces": True,
                "waiting": navigation.waiting() if self.scope.is_cloud_admin else {},
            }
        )
