"""The pages that belong to the frame itself."""

from django.http import HttpRequest, HttpResponse

from cloud.pages import palette
from cloud.pages.base import Page


class Palette(Page):
    """What a few letters could mean. Without JavaScript it is a page of its own."""

    template = "pages/palette.html"
    partials = {"palette-results": "pages/_palette.html"}
    section = "palette"

    def get(self, request: HttpRequest) -> HttpResponse:
        text = request.GET.get("q", "").strip()[:80].replace("\x00", "")
        current = request.GET.get("project", "")
        if current and (found := self.scope.projects().filter(name=current[:63]).first()):
            self.scope.project = found
        return self.show({"q": text, "groups": palette.find(self.scope, text)})
