"""The list of a resource."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict

from cloud.api import pagination
from cloud.pages import bulk, forms, lists
from cloud.pages.base import FormPage
from cloud.pages.generic.resource import ResourcePage

RESULTS_PART = "results"  # the element that tells what has become of a verb for many
TROUBLE = "trouble"  # a status of a list's URL: whatever needs attention


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
        return self.adorn(found).order_by(*lists.order(self.asked.sort or self.sort, self.own_sorts, self.model))

    def fill(self) -> dict[str, Any]:
        if self.part_wanted == RESULTS_PART:
            return {"results": self.results(), "bulk_url": self.bulk_url()}
        self.asked = lists.read(self.request.GET, self.own_filters, self.own_sorts)
        narrowed = self.narrow(self.rows())
        counts = self.count_by_status(narrowed) if self.statuses else {}
        found = self.of_status(narrowed, self.asked.status) if self.asked.status else narrowed
        total = sum(counts.values()) if self.statuses and not self.asked.status else counts.get(self.asked.status, -1)
        if total < 0:
            total = found.count()
        page = min(self.asked.page, max(1, -(-total // self.limit)))
        sort, begin = self.asked.sort or self.sort, (page - 1) * self.limit
        sorts = tuple(self.own_sorts)
        filled = {
            "results": self.results(),
            "rows": self.tell(self.part_of(found, sort, begin)),
            "listing": lists.Listing(self.asked, total, self.limit, page, sort, sorts, counts, self.own_bulk()),
            "bulk_url": self.bulk_url(),
            "title": self.title,
            "cloud": self.for_cloud_admins,
            "live": self.live or self.key,
            "trouble": sum(counts.get(status, 0) for status in self.troubled),
            "base": "pages/part.html" if self.is_part else "pages/page.html",
        }
        return filled if self.is_part else {**filled, **self.around()}

    def part_of(self, found: "QuerySet[Any]", sort: str, begin: int) -> list[Any]:
        """As many rows as a page has, from this one on."""
        ordered = self.adorn(found).order_by(*lists.order(sort, self.own_sorts, self.model))
        return list(ordered[begin : begin + self.limit])

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
