"""Help: the guides, and the one that a page's "?" leads to."""

from typing import Any

from django.http import HttpRequest, HttpResponse

from cloud.dashboard.guides import GUIDES, Guide, guides_for, rendered
from cloud.pages.base import Page
from cloud.problems import NotFound


class Help(Page):
    """All guides with their sections."""

    template = "dashboard/help/guides.html"
    section = "help"

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.show({"guides": [(guide, rendered(guide.name).sections) for guide in guides_for(self.scope)]})


class OneGuide(Page):
    template = "dashboard/help/guide.html"
    section = "help"
    guide: Guide

    def enter(self, **kwargs: Any) -> None:
        super().enter(**kwargs)
        found = GUIDES.get(kwargs["guide"])
        if found is None:
            raise NotFound("There is no such guide.")
        if found.for_cloud_admins:
            self.scope.require_cloud_admin()
        self.guide = found

    def get(self, request: HttpRequest, guide: str) -> HttpResponse:
        return self.show({"guide": self.guide, "text": rendered(guide), "guides": guides_for(self.scope)})
