"""Saved views of a project's instances: a user's own names for filters and orders."""

from typing import ClassVar

from cloud.events.services import Actor, record
from cloud.problems import Conflict, explain_constraint
from cloud.tenancy.models import Project, SavedView, User

MAX_VIEWS = 30

explain_constraint("saved_view_name_is_unique", "You have a view of this name already.", pointer="/name")


class TooManyViews(Conflict):
    """More than anybody can choose from."""

    title: ClassVar[str] = "There are enough saved views"


def save(*, user: User, project: Project, actor: Actor, name: str, query: str) -> SavedView:
    """Keep a view. Raises TooManyViews."""
    if SavedView.objects.filter(user=user, project=project).count() >= MAX_VIEWS:
        raise TooManyViews(f"You have {MAX_VIEWS} in this project. Delete one first.")
    view = SavedView.objects.create(user=user, project=project, name=name, query=query)
    record("tenancy.saved_view.create", view, actor=actor, after={"query": query})
    return view


def change(*, view: SavedView, actor: Actor, name: str | None = None, query: str | None = None) -> SavedView:
    """Give it another name, or another filter and order."""
    asked = {"name": name, "query": query}
    after = {field: value for field, value in asked.items() if value is not None}
    before = {field: getattr(view, field) for field in after}
    for field, value in after.items():
        setattr(view, field, value)
    view.save(update_fields=list(after) or None)
    record("tenancy.saved_view.update", view, actor=actor, before=before, after=after)
    return view


def forget(*, view: SavedView, actor: Actor) -> None:
    record("tenancy.saved_view.delete", view, actor=actor, before={"query": view.query})
    view.delete()
