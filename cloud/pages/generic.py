"""Pages of a resource: its list, one item, changing it, doing something to it. An app only says what is special.

What all pages of a resource share is said once, and each page inherits it beside its kind:

    class KeyPairPage(ResourcePage):
        model, key, title = KeyPair, "keypair", "Key pairs"
        listed_at = section = "keypairs"

    class KeyPairs(KeyPairPage, ListPage):
        template, form = "compute/keypairs/list.html", KeyPairForm

Who may be here, the roles, one transaction per form and refusals are the business of `Page`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.db.models import Count, Model, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from rest_framework import serializers

from cloud.api import pagination
from cloud.pages import bulk, forms, lists, rows, sections
from cloud.pages.base import FormPage, Page, SeeOther, Undo

RESULTS_PART = "results"  # the element that tells what has become of a verb for many
TROUBLE = "trouble"  # a status of a list's URL: whatever needs attention


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
    """The items: searched, narrowed, ordered and page by page, as the URL says. With a `form` it also makes new ones.

    Templates extend `pages/list.html`. They get `rows`, `listing` (cloud/pages/lists.py) and `title`. The list itself
    is a part that is fetched anew when something happens to a subject that `live` names.
    """

    sorts: ClassVar[Mapping[str, str | tuple[str, ...]]] = {"name": "name"}  # by what a head orders → columns
    sort: ClassVar[str] = "name"  # the order when none is asked for
    searched: ClassVar[tuple[str, ...]] = ("name",)  # the columns in which a text is looked for
    filters: ClassVar[tuple[lists.By, ...]] = ()
    statuses: ClassVar[tuple[str, ...]] = ()  # of the column or annotation `status`, as they are listed
    troubled: ClassVar[tuple[str, ...]] = ()  # those of them that `?status=trouble` means: they need attention
    limit: ClassVar[int] = pagination.DEFAULT_LIMIT
    live: ClassVar[str] = ""  # the types of the subjects that it shows, if not `key`
    asked: lists.Asked

    def matching(self, query: QueryDict) -> "QuerySet[Any]":
        """Everything that the list has with this query string, in its order."""
        self.asked = lists.read(query, self.own_filters, self.own_sorts)
        found = self.narrow(self.rows())
        if self.asked.status:
            found = self.of_status(found, self.asked.status)
        return self.adorn(found).order_by(*lists.order(self.asked.sort or self.sort, self.own_sorts))

    def fill(self) -> dict[str, Any]:
        if self.part_wanted == RESULTS_PART:
            return {"results": self.results()}
        self.asked = lists.read(self.request.GET, self.own_filters, self.own_sorts)
        narrowed = self.narrow(self.rows())
        counts = self.count_by_status(narrowed) if self.statuses else {}
        found = self.of_status(narrowed, self.asked.status) if self.asked.status else narrowed
        total = sum(counts.values()) if self.statuses and not self.asked.status else counts.get(self.asked.status, -1)
        if total < 0:
            total = found.count()
        page = min(self.asked.page, max(1, -(-total // self.limit)))
        sort, begin = self.asked.sort or self.sort, (page - 1) * self.limit
        shown = self.adorn(found).order_by(*lists.order(sort, self.own_sorts))[begin : begin + self.limit]
        sorts = tuple(self.own_sorts)
        filled = {
            "results": self.results(),
            "rows": self.tell(list(shown)),
            "listing": lists.Listing(self.asked, total, self.limit, page, sort, sorts, counts, self.own_bulk()),
            "bulk_url": self.bulk_url(),
            "title": self.title,
            "cloud": self.for_cloud_admins,
            "live": self.live or self.key,
            "trouble": sum(counts.get(status, 0) for status in self.troubled),
            "base": "pages/part.html" if self.is_part else "pages/page.html",
        }
        return filled if self.is_part else {**filled, **self.around()}

    def around(self) -> dict[str, Any]:
        """What the page has around its list: the form's choices, the filters' values."""
        selects = lists.selects(self.rows(), self.asked, self.own_filters)
        known = {*lists.PARAMETERS, *(by.name for by in self.filters)}
        is_asked_for = any(name not in known for name in self.request.GET)  # a link that fills in the form
        return {"selects": selects, "creates": self.form is not None, "form_is_open": is_asked_for}

    @property
    def is_part(self) -> bool:
        """Whether the list alone is fetched."""
        return self.part_wanted == "list" and self.request.method == "GET"

    @property
    def own_sorts(self) -> Mapping[str, str | tuple[str, ...]]:
        """What this viewer may order by."""
        return self.sorts

    @property
    def own_filters(self) -> list[lists.By]:
        """Those of this viewer."""
        return [by for by in self.filters if not by.for_cloud_admins or self.scope.is_cloud_admin]

    @property
    def has_labels(self) -> bool:
        return any(field.name == "labels" for field in self.model._meta.get_fields())

    def narrow(self, found: "QuerySet[Any]") -> "QuerySet[Any]":
        return lists.narrow(found, self.asked, self.own_filters, self.searched, has_labels=self.has_labels)

    def of_status(self, found: "QuerySet[Any]", status: str) -> "QuerySet[Any]":
        if status == TROUBLE and self.troubled:
            return found.filter(status__in=self.troubled)
        return found.filter(status=status) if self.statuses else found

    def count_by_status(self, found: "QuerySet[Any]") -> dict[str, int]:
        """How many are in each status that occurs."""
        counts = dict(found.order_by().values("status").annotate(n=Count("pk")).values_list("status", "n"))
        return {status: counts[status] for status in self.statuses if status in counts}

    def adorn(self, found: "QuerySet[Any]") -> "QuerySet[Any]":
        """Add to the rows what only showing them needs."""
        return found

    def tell(self, shown: list[Any]) -> list[Any]:
        """The rows as the template takes them, with what is no column."""
        return shown

    def bulk_verbs(self) -> Sequence[Any]:
        """What can be done with many: see cloud/pages/bulk.py."""
        return ()

    def own_bulk(self) -> Sequence[Any]:
        """What of it this viewer may do."""
        return self.bulk_verbs() if self.for_cloud_admins or self.may(self.role_to_change) else ()

    def bulk_url(self) -> str:
        return self.route(f"selected-{self.listed_at}") if self.bulk_verbs() else ""

    def results(self) -> dict[str, Any] | None:
        """What has become of the last verb for many."""
        if not self.bulk_verbs():
            return None
        project = "" if self.for_cloud_admins else self.project.name
        return bulk.results_for(self.request, self.the_list, project, is_part=bool(self.part_wanted))

    def part_template(self) -> str:
        if self.part_wanted == RESULTS_PART:
            return "pages/parts/results.html"
        return self.template if self.is_part else super().part_template()

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
