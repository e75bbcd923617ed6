"""Saved views: the chips above the list of instances."""

from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.api.errors import NotFound
from cloud.pages import forms
from cloud.pages.base import Page
from cloud.tenancy import saved_views
from cloud.tenancy.api.saved_views import PARAMETERS, SavedViewForm
from cloud.tenancy.models import Role, SavedView


def query_of(asked: Any) -> str:
    """What of a list's URL a view keeps, always in the same order."""
    return urlencode({name: asked[name] for name in PARAMETERS if asked.get(name)})


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


class OwnView(Page):
    """One of the viewer's own."""

    role_to_change = Role.VIEWER
    view: SavedView

    def enter(self, **kwargs: Any) -> None:
        super().enter(**kwargs)
        found = SavedView.objects.filter(project=self.project, user=self.scope.user, pk=kwargs["view"]).first()
        if found is None:
            raise NotFound()
        self.view = found


class RenameView(OwnView):
    def post(self, request: HttpRequest, project: str, view: str) -> HttpResponse:
        found, before = self.view, self.view.name
        body = forms.required(request.POST, "name")
        here = reverse("instances", args=[self.project.name])
        return self.mutate(
            lambda: saved_views.change(
                view=found, actor=self.scope.actor, **self.validate(SavedViewForm, body, partial=True)
            ),
            body=body,
            to=f"{here}?{found.query}" if found.query else here,
            done=lambda changed: f"“{before}” is called “{changed.name}” now.",
            undo=(request.path, {"name": before}),
        )


class ForgetView(OwnView):
    def post(self, request: HttpRequest, project: str, view: str) -> HttpResponse:
        found = self.view
        return self.mutate(
            lambda: saved_views.forget(view=found, actor=self.scope.actor),
            to=reverse("instances", args=[self.project.name]),
            done=f"“{found.name}” is forgotten.",
            undo=(reverse("save-view", args=[self.project.name]), {"name": found.name, **dict(parse_qsl(found.query))}),
        )
