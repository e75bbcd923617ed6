"""One verb for many items of a list: asked about on one page, done to each on its own, told about one by one.

A list says in `bulk_verbs` what can be done with many, and has the routes of `list_routes`:

    *list_routes(f"{P}/volumes", volumes.Volumes),

What is selected comes as `item` (ids), or as `all` with `to`: everything that the list at that address has.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import URLPattern, path

from cloud import transactions
from cloud.api import plans
from cloud.api.fields import as_uuid
from cloud.api.translate import problem_of
from cloud.operations.models import Operation, Outcome
from cloud.pages import links
from cloud.pages.base import FormPage, SeeOther
from cloud.problems import Fault, Problem
from cloud.tenancy import quota
from cloud.tenancy.models import Role

if TYPE_CHECKING:
    from cloud.pages.generic import ListPage

MAX_SELECTED = 500
MAX_TRIED = 100  # by the page that asks; the others are only tried when it is confirmed
RESULTS = "bulk_results"  # in the session, until they are dismissed, or were shown with nothing under way


@dataclass(frozen=True)
class ForMany:
    """A verb for many. `page` is the one that does it to one item: a DeletePage or a VerbPage."""

    page: type[Any]
    name: str = "delete"
    label: str = "Delete"
    icon: str = "trash"
    style: str = "danger"


@dataclass(frozen=True)
class Result:
    """What became of one: work has begun (`operation`), it is done, or it was refused (`refusal`)."""

    name: str
    id: str = ""
    operation: str = ""
    refusal: str = ""


class SelectedPage(FormPage):
    """Asks about all that are selected, and says which of them will be refused: it tries, and rolls back."""

    template = "pages/selected.html"
    partials = {"dialog-body": "pages/_selected.html"}
    role = Role.MEMBER
    of: Any = None  # the list
    max_selected: ClassVar[int] = MAX_SELECTED
    listed: "ListPage"

    def enter(self, **kwargs: Any) -> None:
        super().enter(**kwargs)
        if self.of.for_cloud_admins:
            self.scope.require_cloud_admin()
        self.section, self.help = self.of.section, self.of.help
        self.listed = self.of()
        self.listed.setup(self.request, **kwargs)
        self.listed.scope = self.scope

    @property
    def asked(self) -> QueryDict:
        return self.request.POST if self.request.method == "POST" else self.request.GET

    @property
    def noun(self) -> str:
        title: str = self.of.title
        return title[:1].lower() + title[1:]

    def verb(self) -> Any:
        """What is to be done. Raises NothingSelected for what the list does not offer."""
        found = {verb.name: verb for verb in self.listed.bulk_verbs()}.get(self.asked.get("verb", ""))
        if found is None:
            raise NothingSelected(self.noun)
        return found

    def selected(self) -> tuple[list[Any], int]:
        """The items, up to `max_selected`, and how many there are. Raises NothingSelected for none."""
        if self.asked.get("all"):
            found = self.listed.matching(QueryDict(urlsplit(self.back()).query))
        else:
            ids = [ident for given in self.asked.getlist("item")[: self.max_selected] if (ident := as_uuid(given))]
            found = self.listed.matching(QueryDict()).filter(pk__in=ids)
        rows = list(found[: self.max_selected])
        if not rows:
            raise NothingSelected(self.noun)
        return rows, found.count() if len(rows) == self.max_selected else len(rows)

    def back(self) -> str:
        """The list as it was filtered."""
        there, here = self.asked.get("to", ""), self.listed.the_list
        return there if there == here or there.startswith(f"{here}?") else here

    def fill(self) -> dict[str, Any]:
        verb, (found, total) = self.verb(), self.selected()
        return {
            "verb": verb,
            "items": found,
            "total": total,
            "noun": self.noun,
            "title": self.of.title,
            "cloud": self.of.for_cloud_admins,
            "back": self.back(),
            "send_to": self.request.path,
            "max_tried": MAX_TRIED,
            **self.tried(verb, found),
        }

    def tried(self, verb: Any, found: list[Any]) -> dict[str, Any]:
        """Each of the items with why it would be refused, and what would be deleted or changed along with them."""

        def attempt() -> tuple[list[Result], dict[str, Any]]:
            before = plans.last_event()
            return self.act(verb, found[:MAX_TRIED]), plans.changes_since(before)

        try:
            results, plan = transactions.run(attempt, dry=True)
        except Exception as error:
            return {"problem": problem_of(error), "picked": [(item, "") for item in found]}
        refusals = {result.id: result.refusal for result in results}
        own = {str(item.pk) for item in found}
        others = {what: [one for one in told if one["id"] not in own] for what, told in plan.items()}
        return {
            "picked": [(item, refusals.get(str(item.pk), "")) for item in found],
            "untried": max(0, len(found) - MAX_TRIED),
            "comes_back": self.comes_back(verb),
            "gone_too": others["deleted"],
            "changed_too": others["changed"],
        }

    def act(self, verb: Any, found: Sequence[Any]) -> list[Result]:
        """Do it to each, with a savepoint of its own. In the order of ids: two such requests never deadlock."""
        if self.scope.project is not None:
            quota.lock(self.project)  # which comes before operations
        return [self.do(verb, item) for item in sorted(found, key=lambda item: item.pk)]

    def do(self, verb: ForMany, item: Any) -> Result:
        ident, name = str(item.pk), str(item)
        page = verb.page()
        page.setup(self.request, **{**self.kwargs, page.key: item.pk})
        page.scope = self.scope
        if self.scope.project is not None:
            self.scope.require_role(page.role_to_change)
        try:
            with transaction.atomic():
                page.item = page.find_item()
                page.act()
        except (Problem, ObjectDoesNotExist) as refusal:
            return Result(name, ident, refusal=problem_of(refusal).detail)
        work = Operation.objects.filter(subject_id=ident, finished_at=None).values_list("pk", flat=True).first()
        return Result(name, ident, operation=str(work or ""))

    # Sending

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if "dismiss" in request.POST:
            request.session.pop(RESULTS, None)
            return SeeOther(self.back())
        return super().post(request, *args, **kwargs)

    def read(self) -> dict[str, Any]:
        return {"verb": self.asked.get("verb", ""), "items": self.asked.getlist("item")}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        verb = self.verb()

        def work() -> list[Result]:
            return self.act(verb, self.selected()[0])

        return self.mutate(work, body=body, to=self.back(), done=lambda results: self.keep(verb, results))

    def keep(self, verb: Any, results: list[Result]) -> str:
        """Leave the results for the list to show. There are no other words about it."""
        self.request.session[RESULTS] = {
            "list": self.listed.the_list,
            "verb": verb.label,
            "name": verb.name,
            "undo": getattr(verb, "taken_back_by", ""),
            "goes_to_trash": bool(self.comes_back(verb)),
            "type": self.subject_type(verb),
            "results": [asdict(result) for result in results],
        }
        return ""

    def subject_type(self, verb: Any) -> str:
        """The type of the items, as `links` has it."""
        return getattr(verb.page, "kind", "")

    def comes_back(self, verb: Any) -> str:
        """How the items can be restored; "" if they cannot."""
        return getattr(verb.page(), "comes_back", "")


def list_routes(route: str, page: type["ListPage"], selected: type[SelectedPage] = SelectedPage) -> list[URLPattern]:
    """The routes of a list, and of what can be done with many of its items."""
    return [
        path(route, page.as_view(), name=page.listed_at),
        path(f"{route}/selected", selected.as_view(of=page), name=f"selected-{page.listed_at}"),
    ]


class NothingSelected(Problem):
    """A verb without anything to do it to."""

    title = "Nothing is selected"

    def __init__(self, noun: str) -> None:
        told = f"Select {noun} in the list first. What was selected may be gone by now."
        super().__init__(told, errors=[Fault("/item", told)])


BEGUN, DONE = "begun", "done"  # of one: beside the other outcomes of operations, and "refused"


def results_for(request: HttpRequest, the_list: str, project: str, *, is_part: bool) -> dict[str, Any] | None:
    """What became of the last verb for many of this list, as it is now. Forgotten once it was shown with its end."""
    kept = request.session.get(RESULTS)
    if kept is None or kept.get("list") != the_list:
        return None
    ids = [one["operation"] for one in kept["results"] if one["operation"]]
    works = {str(work.pk): work for work in Operation.objects.filter(pk__in=ids).defer("history")} if ids else {}
    shown, counts = [], {BEGUN: 0, DONE: 0, "failed": 0, "refused": 0}
    for one in kept["results"]:
        work = works.get(one["operation"])
        if one["refusal"]:
            state, tone, told = "refused", "bad", one["refusal"]
        elif work is None or work.outcome == Outcome.DONE:
            state, tone, told = DONE, "good", ""
        elif work.finished_at is None:
            state, tone, told = BEGUN, "busy", work.reason
        else:
            state, told = work.outcome, work.reason
            tone = "bad" if work.outcome == Outcome.FAILED else "idle"
        counts[state] = counts.get(state, 0) + 1
        is_there = one["id"] and not (kept["name"] == "delete" and state == DONE)
        url = links.of(kept["type"], one["id"], project, for_admins=not project) if is_there else ""
        shown.append({**one, "state": state, "tone": tone, "words": told, "url": url})
    shown.sort(key=lambda each: each["tone"] != "bad")
    if not counts[BEGUN] and not is_part:
        del request.session[RESULTS]
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return {**kept, "shown": shown, "summary": summary, "is_live": bool(counts[BEGUN])}
