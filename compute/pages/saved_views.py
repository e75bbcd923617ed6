"""Saved views: the chips above the list of instances."""

from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from cloud.pages import forms
from cloud.pages.base import Page, Undo
from cloud.pages.generic import ItemPage, ResourcePage, VerbPage
from cloud.tenancy import saved_views
from cloud.tenancy.api.saved_views import PARAMETERS, SavedViewForm
from cloud.tenancy.models import Role, SavedView


def query_of(asked: QueryDict) -> str:
    """What of a list's URL a view keeps, always in the same order."""
    return urlencode([(name, value) for name in PARAMETERS for value in asked.getlist(name) if value])


class SaveView(Page):
    """Gives the filter and the order that are shown a name."""

    role_to_change = Role.VIEWER

    def post(self, request: HttpRequest, project: str) -> HttpResponse:
        body = {**forms.required(request.POST, "name"), "query": query_of(request.POST)}
        here = reverse("instances", args=[self.project.name])
        return self.mutate(
            lambda: saved_views.save(
                user=self.scope.user, project=self.project, actor=self.scope.actor, **self.validate(SavedViewForm, body)
            ),
            body=body,
            to=lambda view: f"{here}?{view.query}" if view.query else here,
            done=lambda view: f"“{view.name}” is kept. Its address is a link that works for others too.",
        )


class SavedViewPage(ResourcePage):
    """One of the viewer's own."""

    model, key, listed_at = SavedView, "view", "instances"
    role_to_change = Role.VIEWER

    def rows(self) -> "QuerySet[SavedView]":
        return super().rows().filter(user=self.scope.user)


class RenameView(SavedViewPage, ItemPage):
    http_method_names = ("post",)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        found, before = self.item, self.item.name
        body = forms.required(request.POST, "name")
        return self.mutate(
            lambda: saved_views.change(
                view=found, actor=self.scope.actor, **self.validate(SavedViewForm, body, partial=True)
            ),
            body=body,
            to=f"{self.the_list}?{found.query}" if found.query else self.the_list,
            done=lambda changed: f"“{before}” is called “{changed.name}” now.",
            undo=(request.path, {"name": before}),
        )


class ForgetView(SavedViewPage, VerbPage):
    def act(self) -> None:
        saved_views.forget(view=self.item, actor=self.scope.actor)

    def done(self, result: None) -> str:
        return f"“{self.item.name}” is forgotten."

    def undo(self) -> Undo:
        return self.route("save-view"), {"name": self.item.name, **dict(parse_qsl(self.item.query))}
