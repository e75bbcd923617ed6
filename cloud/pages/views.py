"""The pages that belong to the frame itself."""

from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse

from cloud.pages import by_name, palette
from cloud.pages.base import Page, SeeOther
from cloud.problems import NotFound


class Palette(Page):
    """What a few letters could mean. Without JavaScript it is a page of its own."""

    template = "pages/palette.html"
    partials = {"palette-results": "pages/_palette.html"}
    section = "palette"
    help = "projects#finding-your-way"

    def get(self, request: HttpRequest) -> HttpResponse:
        text = request.GET.get("q", "").strip()[:80].replace("\x00", "")
        current = request.GET.get("project", "")
        if current and (found := self.scope.projects().filter(name=current[:63]).first()):
            self.scope.project = found
        came_from = urlsplit(request.headers.get("HX-Current-URL", ""))
        path = f"{came_from.path}?{came_from.query}" if came_from.query else came_from.path
        return self.show({"q": text, "from": path, "groups": palette.find(self.scope, text)})


class Nowhere(Page):
    """An address that leads nowhere, with the way around for those who have signed in; one with a name leads there."""

    there = ""

    def enter(self, **kwargs: Any) -> None:
        if self.request.method in ("GET", "HEAD"):
            self.there = by_name.path_meant(self.request, self.scope)
        if not self.there:
            raise NotFound("There is no page at this address.")

    def get(self, request: HttpRequest) -> HttpResponse:
        query = request.META.get("QUERY_STRING", "")
        return SeeOther(f"{self.there}?{query}" if query and "?" not in self.there else self.there)
