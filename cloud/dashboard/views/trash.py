"""What a project has deleted, of every kind, and may still have back."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud import trash
from cloud.pages.base import Page
from cloud.problems import NotFound

MAX_SHOWN = 100  # of each kind


class OfProject(Page):
    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """The project's; for admins of the cloud also the cloud's own."""
        own = Q(project=self.project) | Q(project=None) if self.scope.is_cloud_admin else Q(project=self.project)
        return rows.filter(own)


class Trash(OfProject):
    template = "dashboard/project/trash.html"
    partials = {"trash": "dashboard/project/_trash.html"}
    section = "trash"
    help = "projects#trash"

    def get(self, request: HttpRequest, project: str) -> HttpResponse:
        found = []
        for kind in trash.kinds():
            going = set(kind.going())
            rows = self.visible(kind.trashed()).order_by("-trashed_at", "pk")[:MAX_SHOWN]
            found += [(kind, row, kind.about(row), row.pk in going) for row in rows]
        found.sort(key=lambda one: one[1].trashed_at, reverse=True)
        return self.show({"trashed": found, "hours": settings.TRASH_HOURS})


class OfTrash(OfProject):
    """A button of one thing that is in the trash."""

    http_method_names = ("post",)

    def post(self, request: HttpRequest, project: str, kind: str, ident: UUID) -> HttpResponse:
        to = reverse("trash", args=[self.project.name])
        return self.mutate(lambda: self.act(*self.find(kind, ident)), to=to, done=str)

    def find(self, name: str, ident: UUID) -> tuple[trash.Kind, Any]:
        kind = {kind.type: kind for kind in trash.kinds()}.get(name)
        row = self.visible(kind.rows()).filter(pk=ident).first() if kind else None
        if kind is None or row is None:
            raise NotFound("It has been deleted for good. The project's activity tells.")
        return kind, row

    def act(self, kind: trash.Kind, row: Any) -> str:
        """Do it, and return the words about it."""
        raise NotImplementedError


class Restore(OfTrash):
    def act(self, kind: trash.Kind, row: Any) -> str:
        before, name = row.name, trash.free_name(row)
        kind.restore(row, self.scope.actor, name if name != before else "")
        return f"{before} is back." if name == before else f"{before} is back as {name}: its old name is taken by now."


class Purge(OfTrash):
    def act(self, kind: trash.Kind, row: Any) -> str:
        kind.purge(row, self.scope.actor)
        return f"{row.name} is being deleted for good."
