"""What every page shares: who looks, at which project, what may be changed, and how a refusal is shown.

A page reads with the same scope as the API and changes by the same services in the same kind of transaction. It speaks
the API's own bodies: a form's fields become the JSON that the API would take, are checked by the API's serializer, and
can therefore be shown as a call to copy.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import uuid4

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render, resolve_url
from django.urls import reverse
from django.views import View
from rest_framework import serializers

from cloud import transactions
from cloud.api import idempotency, pagination
from cloud.api.addresses import address
from cloud.api.fields import as_uuid
from cloud.api.scope import RANK, Scope
from cloud.api.translate import problem_of
from cloud.events import reading
from cloud.pages import following, navigation
from cloud.problems import Problem
from cloud.tenancy import notifications, sessions
from cloud.tenancy.models import Project, Role, User

UNDO = "undo"  # in the session, until the toast that offers it
THEMES = ("system", "light", "dark")
# What a page's script (htmx) is told with an answer that is not the part it wanted.
WHOLE_PAGE_AGAIN = {"HX-Refresh": "true"}
KEEP_THE_PART = {"HX-Reswap": "none"}
Undo = tuple[str, Mapping[str, str]]  # where the form that takes a change back is sent to, and its fields
LAST_PROJECT = "project"  # in the session: the one that was looked at last


class SeeOther(HttpResponseRedirect):
    """After a change: look at the result, and let a reload repeat the looking only."""

    status_code = 303


def theme_of(request: HttpRequest) -> str:
    chosen = request.COOKIES.get("theme", "system")
    return chosen if chosen in THEMES else "system"


def has(project: Project | None, role: str) -> bool:
    """Whether the viewer has at least this role in a project that the scope gave."""
    own = getattr(project, "role", "")
    return bool(own) and RANK[Role(own)] >= RANK[Role(role)]


class Page(View):
    """A page for those who have signed in."""

    template: ClassVar[str]
    partials: ClassVar[Mapping[str, str]] = {}  # parts that htmx may fetch alone: id of the element → its template
    section: str = ""  # the entry of the navigation that is lit
    help: str = ""  # the part of the guides that its "?" leads to: "networks#ipv6" is of docs/networks.md
    for_cloud_admins: ClassVar[bool] = False
    role: ClassVar[str] = Role.VIEWER  # what the page needs of its project
    role_to_change: ClassVar[str] = Role.MEMBER
    keeps_secret: ClassVar[bool] = False
    scope: Scope
    as_of: reading.Cursor | None = None  # the page shows at least what had happened then; the stream goes on from there

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not isinstance(request.user, User):
            if self.part_wanted:
                return HttpResponse(status=401, headers=KEEP_THE_PART)  # session.js offers to sign in
            return redirect_to_login(request.get_full_path(), resolve_url(settings.LOGIN_URL))
        self.scope = Scope(request.user, request_id=getattr(request, "request_id", ""))
        try:
            browser = request.headers.get("User-Agent", "")
            sessions.note(request.session, request.user, address=address(request), browser=browser)
            self.enter(**kwargs)
            if request.method == "GET" and not self.part_wanted:
                self.as_of = reading.now()
            return super().dispatch(request, *args, **kwargs)
        except Exception as error:
            return self.refuse(problem_of(error))

    def enter(self, **kwargs: Any) -> None:
        """Find the project of the path and make sure that the viewer may be here. Raises NotFound, Forbidden."""
        if "project" in kwargs:
            self.scope.enter(kwargs["project"])
            self.scope.require_role(self.role if self.request.method in ("GET", "HEAD") else self.role_to_change)
            if self.request.session.get(LAST_PROJECT) != self.project.name:
                self.request.session[LAST_PROJECT] = self.project.name
        if self.for_cloud_admins:
            self.scope.require_cloud_admin()

    @property
    def project(self) -> Project:
        assert self.scope.project is not None
        return self.scope.project

    def current_project(self) -> Project | None:
        """The project of the page, or the one looked at before: the way around does not forget it on other pages."""
        last = self.request.session.get(LAST_PROJECT)
        return self.scope.project or (self.scope.projects().filter(name=last).first() if last else None)

    def may(self, role: str) -> bool:
        """Whether the viewer has at least this role in the project."""
        return has(self.scope.project, role)

    # Showing

    @property
    def part_wanted(self) -> str:
        """The id of the element that htmx fetches a page for; "" when the browser itself wants the page."""
        return self.request.headers.get("HX-Target", "")

    def part_template(self) -> str:
        """The template of the part that is wanted; "" for the whole page."""
        return self.partials.get(self.part_wanted, "")

    def show(self, context: Mapping[str, Any] | None = None, *, status: int = 200, template: str = "") -> HttpResponse:
        """The page, or just the part of it that htmx has asked for."""
        part = self.part_template()
        chosen = template or part or self.template
        everything = {**self.frame(whole=not part), **(context or {})}
        response = render(self.request, chosen, everything, status=status)
        response["Cache-Control"] = "no-store"
        response["Vary"] = "Cookie, HX-Target"
        return response

    def frame(self, *, whole: bool = True) -> dict[str, Any]:
        """What the frame around every page needs, and what parts may ask for."""
        frame: dict[str, Any] = {
            "scope": self.scope,
            "project": self.scope.project,
            "form_key": str(uuid4()),
            "may_change": self.may(Role.MEMBER),
            "may_administer": self.may(Role.ADMIN),
            "page_path": self.request.get_full_path(),
        }
        if whole:
            current = self.current_project()
            frame |= {
                "theme": theme_of(self.request),
                "current": current,
                "main_actions": navigation.main_of(current),
                "navigation": navigation.of(self.scope, self.section, current),
                "switch_to": list(self.scope.projects().order_by("name")[: navigation.MAX_PROJECTS]),
                "section": self.section,
                "help_url": self.help_url(),
                "undo": self.request.session.pop(UNDO, None),
                "followed": following.followed(self.request),
                "as_of": self.as_of,
            }
            frame["unread"], frame["bell_at"] = notifications.bell(self.scope.user)
        return frame

    def help_url(self) -> str:
        guide, _, anchor = self.help.partition("#")
        return reverse("guide", args=[guide]) + (f"#{anchor}" if anchor else "") if guide else ""

    def elsewhere(self) -> list[tuple[str, str]]:
        """Other pages that may have what is not here: label, path."""
        return []

    def refuse(self, problem: Problem) -> HttpResponse:
        """The error page. For a part of a page (htmx): keep the part as it is, or reload the whole page."""
        context = {
            "problem": problem,
            "request_id": self.scope.request_id,
            "elsewhere": self.elsewhere(),
            "help_url": "",
        }
        if self.part_wanted == "dialog-body":
            response = self.show(context, status=problem.status, template="pages/parts/refused_dialog.html")
        elif self.part_wanted:
            is_gone = self.request.method == "GET" and problem.status < 429
            response = HttpResponse(status=problem.status, headers=WHOLE_PAGE_AGAIN if is_gone else KEEP_THE_PART)
        else:
            response = self.show(context, status=problem.status, template="pages/refusal.html")
        for name, value in problem.headers.items():
            response[name] = value
        return response

    def slice(self, rows: QuerySet, order: tuple[str, ...], *, limit: int = pagination.DEFAULT_LIMIT) -> dict[str, Any]:
        """One page of a list as the API pages it, and where the next one is."""
        cursor = self.request.GET.get("cursor", "")
        page = pagination.page(rows, order, request=self.request, limit=limit, cursor=cursor)
        return {"rows": page.rows, "next": f"?{urlsplit(page.next).query}" if page.next else "", "cursor": cursor}

    # Changing

    def validate(self, form: type[serializers.Serializer], body: Mapping[str, Any], *, partial: bool = False) -> dict:
        """What the API's form makes of a body; raises every fault in it at once."""
        context = {"request": self.request, "scope": self.scope, "view": self}
        read = form(data=dict(body), partial=partial, context=context)
        read.is_valid(raise_exception=True)
        return dict(read.validated_data)

    def mutate(
        self,
        service: Callable[[], Any],
        *,
        body: Mapping[str, Any] | None = None,
        to: str | Callable[[Any], str],
        done: str | Callable[[Any], str] = "",
        secret: Callable[[Any], HttpResponse] | None = None,
        undo: Undo | Callable[[], Undo | None] | None = None,
        again: Callable[[], HttpResponse | None] | None = None,
    ) -> HttpResponse:
        """Run one service in one transaction, once per form that was filled in; then go to where the result is.

        A form sent twice does its work once: the hidden key and the body are the idempotency key. `secret` answers with
        a page that shows what is shown once only; `again` with what of it can be told when the form is sent twice.
        `undo` is the form that takes it back.
        """
        scope, request = self.scope, self.request
        given = request.POST.get("form_key", "")
        form_key = given if as_uuid(given) else str(uuid4())
        mark = idempotency.fingerprint("POST", request.path, "", body or {})
        key = hashlib.sha256(f"{form_key} {mark}".encode()).hexdigest()

        def work() -> tuple[str, Any, bool]:
            if kept := idempotency.reserve_key(scope.caller, key, mark):
                return kept.headers["Location"], None, True
            result = service()
            location = to if isinstance(to, str) else to(result)
            idempotency.keep_answer(scope.caller, key, status=303, headers={"Location": location}, body=None)
            return location, result, False

        location, result, replayed = transactions.run(work)
        if replayed and again is not None and (told := again()):
            return told
        if replayed:
            messages.info(request, "This was sent before, and was done then. It has not been done twice.")
            return SeeOther(location)
        works = following.begun(scope)
        if secret is None or works:
            self.announce(done if isinstance(done, str) else done(result), works, undo)
        return SeeOther(location) if secret is None else secret(result)

    def announce(self, words: str, works: list[str], undo: Undo | Callable[[], Undo | None] | None) -> None:
        """Say on the next page what was done, and how to take it back. Of work that goes on, follow it to its end."""
        if not words:
            return
        back = undo() if callable(undo) else undo
        kept = {"url": back[0], "fields": dict(back[1])} if back else None
        if works:
            following.follow(self.request, words, works, kept)
        else:
            messages.success(self.request, words)
            self.request.session[UNDO] = kept


class FormPage(Page):
    """A page with a form: `fill` says what is on it, `read` makes the API's body of it, `submit` does it."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.show({**self.fill(), "values": self.initial()})

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return self.submit(self.read())
        except Exception as error:
            return self.show_fault(problem_of(error))

    def show_fault(self, problem: Problem) -> HttpResponse:
        """The form as it was filled in, with every fault beside its field."""
        return self.show({**self.fill(), "values": self.request.POST, "problem": problem}, status=problem.status)

    def fill(self) -> dict[str, Any]:
        return {}

    def initial(self) -> Mapping[str, Any]:
        """What the fields hold at first; the query string may fill them in."""
        return self.request.GET

    def read(self) -> dict[str, Any]:
        raise NotImplementedError

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        raise NotImplementedError
