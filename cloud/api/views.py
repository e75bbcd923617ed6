"""The shapes of endpoints: a collection, one item, a verb; in a project or in the cloud.

A view names its rows, its bodies and one service per verb. docs/adding-a-resource.md shows a whole resource.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api import pagination
from cloud.api.base import DRY_RUN
from cloud.api.etags import conditional
from cloud.api.mutations import Once, Several, View
from cloud.api.pagination import Filter, Page
from cloud.tenancy.models import Project, Role

LIMIT = serializers.IntegerField(min_value=1, max_value=pagination.MAX_LIMIT, help_text="Objects on a page.")
CURSOR = serializers.CharField(max_length=1000, help_text="Where the page begins: taken from `next`.")


class Collection(View):
    """GET lists; a subclass with `create(body)` answers POST."""

    may_create_several: ClassVar[bool] = False  # whether `create` may return Several
    successes: ClassVar[Mapping[str, int]] = {"POST": 201}
    order: ClassVar[tuple[str, ...]] = ("created_at", "id")
    filters: ClassVar[Mapping[str, Filter]] = {}
    has_labels: ClassVar[bool] = True
    paging: ClassVar[Mapping[str, serializers.Field]] = {"limit": LIMIT, "cursor": CURSOR}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if hasattr(cls, "create") and not hasattr(cls, "post"):
            cls.post = Collection._post  # type: ignore[attr-defined]

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        own = {name: known.field for name, known in self.filters.items()}
        known: dict[str, serializers.Field] = {**self.paging, **own}
        values = self.query(known, labels=self.has_labels)
        paging = {name: values.pop(name) for name in pagination.PAGING if name in values}
        found = self.found(values, paging)
        assert self.serializer is not None
        items = self.serializer(found.rows, many=True, context=self.context()).data
        return Response({"items": items, "next": found.next})

    def found(self, values: Mapping[str, Any], paging: Mapping[str, Any]) -> Page:
        """What these filters let through, and from where: `limit` and `cursor`, as far as they are given."""
        rows = pagination.narrow(self.rows(), self.filters, values)
        return pagination.page(rows, self.order, request=self.request, **paging)

    def _post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.mutate(lambda: self.create(self.form()))  # type: ignore[attr-defined]


class Item(View):
    """GET shows one; `change(row, body)` answers PATCH, `remove(row)` DELETE. The last path argument is `ref`."""

    name: ClassVar[str] = "name"  # the column that a path may use instead of the id

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if hasattr(cls, "change"):
            cls.patch = Item._patch  # type: ignore[attr-defined]
        if hasattr(cls, "remove"):
            cls.delete = Item._delete  # type: ignore[attr-defined]

    def one(self, reference: str, *, name: str = "") -> Any:
        return super().one(reference, name=name or self.name)

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        self.query()
        return conditional(request, self.show(self.one(kwargs.get("ref", ""))))

    def _patch(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        reference = kwargs.get("ref", "")
        return self.mutate(
            lambda: self.change(self.one(reference), self.form(partial=True)),  # type: ignore[attr-defined]
            target=reference,
        )

    def _delete(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        reference = kwargs.get("ref", "")
        return self.mutate(lambda: self.remove(self.one(reference)), target=reference)  # type: ignore[attr-defined]


class Verb(Item):
    """POST …/{ref}/verb: a subclass has `act(row, body)`."""

    http_method_names = ["post", "options"]

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        reference = kwargs["ref"]
        return self.mutate(lambda: self.act(self.one(reference), self.form()), target=reference)  # type: ignore[attr-defined]


class InProject(View):
    """Mixin of all below /projects/{project}/: enters the project, and asks for the role that the method needs."""

    roles: ClassVar[Mapping[str, str]] = {}  # other than viewer for reading and member for changing

    def enter(self, **kwargs: Any) -> None:
        self.scope.enter(kwargs["project"])

    def authorize(self, request: Request) -> None:
        self.scope.require_role(self.role_for(request.method or ""))
        super().authorize(request)

    @classmethod
    def role_for(cls, method: str) -> Role:
        """The least role in the project that this method needs."""
        return Role(cls.roles.get(method, Role.VIEWER if method in SAFE_METHODS else Role.MEMBER))

    @property
    def project(self) -> Project:
        assert self.scope.project is not None
        return self.scope.project


__all__ = ["DRY_RUN", "Collection", "InProject", "Item", "Once", "Several", "Verb", "View", "conditional"]
