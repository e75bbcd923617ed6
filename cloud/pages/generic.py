"""Pages of a resource: its list, one item, changing it, doing something to it. An app only says what is special.

What all pages of a resource share is said once, and each page inherits it beside its kind:

    class KeyPairPage(ResourcePage):
        model, key, title = KeyPair, "keypair", "Key pairs"
        listed_at = section = "keypairs"

    class KeyPairs(KeyPairPage, ListPage):
        template, form = "compute/keypairs/list.html", KeyPairForm

Who may be here, the roles, one transaction per form and refusals are the business of `Page`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from rest_framework import serializers

from cloud.api import pagination
from cloud.pages import forms, rows, sections
from cloud.pages.base import FormPage, Page, SeeOther, Undo


class ResourcePage(Page):
    """What all pages of one resource share."""

    model: ClassVar[type[Model]]
    key: ClassVar[str]  # what routes call the id of an item, and templates the item
    listed_at: ClassVar[str]  # the route of the list
    title: ClassVar[str]  # of the list
    form: ClassVar[type[serializers.Serializer] | None] = None  # the API's, of what is made or changed
    fields: ClassVar[Mapping[str, forms.Field]] = {}  # how its members are read from the page's form

    def rows(self) -> "QuerySet[Any]":
        """What the viewer may see: of the project, or of the whole cloud for its admins."""
        every: QuerySet[Any] = self.model._default_manager.all()
        return every if self.for_cloud_admins else every.filter(project_id=self.project.pk)

    def route(self, name: str, *arguments: Any) -> str:
        """The path of another page, in the same project."""
        project = [] if self.scope.project is None else [self.project.name]
        return reverse(name, args=[*project, *arguments])

    @property
    def the_list(self) -> str:
        return self.route(self.listed_at)


class ListPage(ResourcePage, FormPage):
    """The items, searched by name or id and page by page. With a `form` it also makes new ones.

    Templates extend `pages/list.html`. They get `rows`, `next` and `cursor` (see parts/pager.html), `q` and `title`.
    """

    order: ClassVar[tuple[str, ...]] = ("name", "id")
    limit: ClassVar[int] = pagination.DEFAULT_LIMIT

    def fill(self) -> dict[str, Any]:
        text = self.request.GET.get("q", "")
        return {**self.slice(self.search(text), self.order, limit=self.limit), "q": text, "title": self.title}

    def search(self, text: str) -> "QuerySet[Any]":
        return rows.search(self.rows(), text)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if self.form is None:
            return self.http_method_not_allowed(request)
        return super().post(request, *args, **kwargs)

    def read(self) -> dict[str, Any]:
        return forms.read(self.request.POST, self.fields)

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        assert self.form is not None
        form = self.form
        return self.mutate(
            lambda: self.create(self.validate(form, body)),
            body=body,
            to=self.after_creating,
            done=self.created,
            secret=self.show_secret if self.makes_secret(body) else None,
        )

    def create(self, body: dict[str, Any]) -> Any:
        """Call the service, with what the API's form has made of the fields."""
        raise NotImplementedError

    def created(self, made: Any) -> str:
        """The words about what `create` has returned."""
        raise NotImplementedError

    def after_creating(self, made: Any) -> str:
        return self.the_list

    def makes_secret(self, body: Mapping[str, Any]) -> bool:
        """Whether something is made that is shown once only, by `show_secret`."""
        return False

    def show_secret(self, made: Any) -> HttpResponse:
        raise NotImplementedError


class ItemPage(ResourcePage):
    """One item, which is `self.item` here and `key` in the template. What is not there, or not seen, is a 404.

    Templates include each of `sections`, which other apps have registered for this `key`.
    """

    by: ClassVar[str] = "pk"  # the column of the id in the path
    gone: ClassVar[str] = ""  # what the 404 says, if there is more to say than usual
    item: Any

    def enter(self, **kwargs: Any) -> None:
        super().enter(**kwargs)
        self.item = self.find_item()

    def find_item(self) -> Any:
        return rows.find(self.rows(), self.kwargs[self.key], self.gone, by=self.by)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.show({**self.fill(), **sections.of(self, self.key, self.item)})

    def fill(self) -> dict[str, Any]:
        return {self.key: self.item}

    def after(self) -> str:
        """Where a change leads to."""
        return self.the_list


class ByName(Page):
    """The address with an item's name leads to the one with its id, which stays when the item is renamed."""

    page: ClassVar[type[ItemPage]] = ItemPage
    route: ClassVar[str] = ""

    def get(self, request: HttpRequest, project: str, name: str) -> HttpResponse:
        page = self.page()
        page.setup(request, project=project)
        page.scope = self.scope
        item = rows.find(page.rows(), name, page.gone, by="name")
        return SeeOther(reverse(self.route, args=[project, item.pk]))


class ItemFormPage(ItemPage, FormPage):
    """A form about one item."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return FormPage.get(self, request, *args, **kwargs)


class ChangePage(ItemFormPage):
    """A form with what can be changed of an item: `change` calls the service.

    Templates extend `pages/change.html`.
    """

    can_undo: ClassVar[bool] = True

    def fill(self) -> dict[str, Any]:
        return {**super().fill(), "title": self.title, "the_list": self.the_list, "after": self.after()}

    def initial(self) -> dict[str, Any]:
        return forms.write(self.item, self.fields)

    def read(self) -> dict[str, Any]:
        return forms.read(self.request.POST, self.fields)

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        assert self.form is not None
        form = self.form
        return self.mutate(
            lambda: self.change(self.validate(form, body, partial=True)),
            body=body,
            to=lambda row: self.after(),
            done=self.changed,
            undo=(self.request.path, self.initial()) if self.can_undo else None,
        )

    def change(self, changes: dict[str, Any]) -> Any:
        """Call the service."""
        raise NotImplementedError

    def changed(self, row: Any) -> str:
        """The words about what `change` has returned."""
        return "Changed."


class VerbPage(ItemPage):
    """Does something to an item when it is sent a form: deletes it, revokes it, repairs it."""

    http_method_names = ("post",)

    def enter(self, **kwargs: Any) -> None:
        super(ItemPage, self).enter(**kwargs)  # the item is found later: sent twice, the form may have deleted it

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        def work() -> Any:
            self.item = self.find_item()
            return self.act()

        return self.mutate(work, to=lambda result: self.after(), done=self.done, undo=self.undo)

    def act(self) -> Any:
        """Call the service."""
        raise NotImplementedError

    def done(self, result: Any) -> str:
        """The words about what `act` has returned."""
        raise NotImplementedError

    def undo(self) -> Undo | None:
        return None
