"""What every resource that goes through the trash has: the list of what is there, `restore` and `purge`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet
from rest_framework import serializers

from cloud import trash
from cloud.api.fields import NameField
from cloud.api.pagination import Filter
from cloud.api.serializers import Body
from cloud.api.views import Verb, View

TRASHED = {"trashed": Filter(serializers.BooleanField(help_text="Those in the trash, or not."), "is_trashed")}
PURGE: Mapping[str, serializers.Field] = {
    "purge": serializers.BooleanField(help_text="Delete it for good at once: it does not go to the trash.")
}


class RestoreForm(Body):
    name = NameField(required=False)


class WithTrash(View):
    """Mixin of all views of such a resource: `rows` are those that are not in the trash. A subclass has `every`."""

    def every(self) -> QuerySet[Any]:
        """With those in the trash."""
        raise NotImplementedError

    def rows(self) -> QuerySet[Any]:
        """Those in the trash as well, marked, when the query says `trashed`."""
        if "trashed" not in self.request.query_params:
            return self.every().filter(trashed_at=None)
        marked: QuerySet[Any] = self.every().annotate(
            is_trashed=ExpressionWrapper(Q(trashed_at__isnull=False), BooleanField())
        )
        return marked

    def how(self) -> dict[str, Any]:
        """How the query wants it deleted: `purge`, and what else the view takes."""
        return {name: value for name, value in self.query().items() if name != "dry_run"}


class OfTrash(WithTrash, Verb):
    """Finds what is in the trash first: another one may have its name by now."""

    kind: ClassVar[str]

    def rows(self) -> QuerySet[Any]:
        return self.every().order_by(F("trashed_at").desc(nulls_last=True))


class Restore(OfTrash):
    forms: ClassVar = {"POST": RestoreForm}

    def act(self, row: Any, body: dict[str, Any]) -> Any:
        """Take it out of the trash. Give a `name` where another one is called so by now."""
        trash.kind_of(self.kind).restore(row, self.actor, body.get("name", ""))
        return row


class Purge(OfTrash):
    def act(self, row: Any, body: dict[str, Any]) -> Any:
        """Delete it for good, before its time in the trash is over."""
        trash.kind_of(self.kind).purge(row, self.actor)
        return row
