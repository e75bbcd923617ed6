"""The API's documentation: every call, what it takes and answers, to copy or to try."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render

from cloud.dashboard import reference
from cloud.pages import forms
from cloud.pages.base import Page, theme_of
from cloud.tenancy.models import User

FIRST = "instances"


class ApiReference(Page):
    """One resource a page. Strangers may read it, too; who has signed in can send the calls from here."""

    template = "dashboard/reference/page.html"
    section = "api"
    help = "api#conventions"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if isinstance(request.user, User):
            return super().dispatch(request, *args, **kwargs)
        if request.method not in ("GET", "HEAD"):
            return self.http_method_not_allowed(request)
        context = {**self.fill("demo"), "theme": theme_of(request), "is_stranger": True}
        return render(request, "dashboard/reference/bare.html", context)

    def get(self, request: HttpRequest) -> HttpResponse:
        current = self.current_project()
        return self.show(self.fill(current.name if current else "demo"))

    def fill(self, project: str) -> dict[str, Any]:
        """What the page holds, with examples about this project."""
        groups = reference.calls()
        asked = self.request.GET.get("of", FIRST)
        chosen = asked if asked in groups else FIRST
        return {
            "groups": sorted((name, len(found)) for name, found in groups.items()),
            "chosen": chosen,
            "calls": [(call, *_example(call, project)) for call in groups[chosen]],
        }


def _example(call: reference.Call, project: str) -> tuple[list[tuple[str, str]], str]:
    """What the variables of its path could be, and the call for a shell."""
    values = [(name, project if name == "project" else call.name_of(name)) for name in call.variables]
    return values, forms.as_curl(call.takes, call.address(project), call.body)
