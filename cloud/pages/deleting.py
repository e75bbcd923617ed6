"""Deleting what other things may hang on: the page first shows what would go with it, or why it cannot go."""

from typing import Any, ClassVar

from django.conf import settings
from django.http import HttpResponse

from cloud import transactions, trash
from cloud.api import plans
from cloud.api.translate import problem_of
from cloud.pages import links
from cloud.pages.base import Undo
from cloud.pages.generic import ItemFormPage, ItemPage
from cloud.problems import NotFound, Problem
from cloud.tenancy.models import Role


class DeletePage(ItemFormPage):
    """Asks before it deletes. What it says comes from the service, which is tried out and rolled back.

    Templates extend `pages/delete.html`, or are it. `delete` calls the service.
    """

    template = "pages/delete.html"
    partials = {"dialog-body": "pages/_delete.html"}
    role = Role.MEMBER
    kind: ClassVar[str]  # the type of the item, as its events have it
    comes_back: str = ""  # how it can be restored, if it can

    def enter(self, **kwargs: Any) -> None:
        if self.request.method == "POST":
            super(ItemPage, self).enter(**kwargs)  # the item is found later: sent twice, the form may have deleted it
        else:
            super().enter(**kwargs)

    def fill(self) -> dict[str, Any]:
        frame = {"item": self.item, "kind": self.kind, "title": self.title, "the_list": self.the_list}
        return {**super().fill(), **frame, "leave": self.leave(), **self.tried(), "comes_back": self.comes_back}

    def tried(self) -> dict[str, Any]:
        """What would be deleted and changed along with it; or the problem, and who uses it."""

        def attempt() -> dict[str, Any]:
            before = plans.last_event()
            self.delete()
            return plans.changes_since(before)

        ident, name = str(self.item.pk), str(self.item)
        try:
            plan = transactions.run(attempt, dry=True)
        except Exception as error:
            problem = problem_of(error)
            users = [(one, self.page_about(one)) for one in problem.extra.get("used_by", [])]
            return {"refusal": problem, "users": users, "item_name": name}
        finally:
            self.item = self.find_item()  # as it is: the attempt has taken its id
        others = {what: [one for one in found if one["id"] != ident] for what, found in plan.items()}
        return {"gone_too": others["deleted"], "changed_too": others["changed"], "item_name": name}

    def page_about(self, use: dict[str, str]) -> str:
        project = self.scope.project.name if self.scope.project else ""
        return links.of(use["type"], use["id"], project, for_admins=self.for_cloud_admins)

    def leave(self) -> str:
        """Where somebody goes who keeps it."""
        return self.the_list

    def read(self) -> dict[str, Any]:
        return {}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        def work() -> str:
            self.item = self.find_item()
            name = str(self.item)
            self.delete()
            return name

        done = f"is deleted. {self.comes_back}".strip()
        return self.mutate(work, to=lambda name: self.after(), done=lambda name: f"{name} {done}", undo=self.undo)

    def undo(self) -> Undo | None:
        """The form that brings it back, if there is one."""
        return None

    def show_fault(self, problem: Problem) -> HttpResponse:
        if isinstance(problem, NotFound):
            return self.refuse(problem)
        self.item = self.find_item()
        return super().show_fault(problem)

    def delete(self) -> None:
        """Call the service, with what may go along."""
        raise NotImplementedError

    def act(self) -> None:
        """For many: the same."""
        self.delete()


class DiscardPage(DeletePage):
    """Of what goes through the trash, if there is one."""

    @property
    def comes_back(self) -> str:  # type: ignore[override]
        return f"Kept in the trash for {settings.TRASH_HOURS:g} hours." if trash.is_used() else ""

    def undo(self) -> Undo | None:
        ident = self.kwargs[self.key]
        is_there = trash.kind_of(self.kind).trashed().filter(pk=ident).exists()
        return (self.route("restore-from-trash", self.kind, ident), {}) if is_there else None
