"""Pages about a project as a whole: which one, how it is doing, who is in it, what was done, what it may have."""

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.api.errors import NotFound
from cloud.dashboard import getting_started, rows
from cloud.dashboard.views.quota import in_use
from cloud.events import reading
from cloud.operations.models import Operation
from cloud.pages import forms
from cloud.pages.base import LAST_PROJECT, FormPage, Page, SeeOther
from cloud.pages.rows import search
from cloud.tenancy import quota, services
from cloud.tenancy.api.projects import MemberChanges, MemberForm
from cloud.tenancy.models import Membership, Role
from compute import costs
from compute.models import Flavor, Instance, KeyPair
from compute.status import count_by_status
from storage.services import images_of

RECENT_EVENTS = 8
MOST_TROUBLED = 5


class Home(Page):
    """The way in: to the project that was looked at last, or to the only one."""

    def get(self, request: HttpRequest) -> HttpResponse:
        visible = self.scope.projects()
        last = request.session.get(LAST_PROJECT)
        found = visible.filter(name=last).first() if last else None
        found = found or visible.order_by("created_at").first()
        return SeeOther(reverse("overview", args=[found.name]) if found else reverse("projects"))


class Projects(Page):
    template = "dashboard/project/list.html"
    section = "projects"

    def get(self, request: HttpRequest) -> HttpResponse:
        text = request.GET.get("q", "")
        found = self.slice(search(self.scope.projects(), text), ("name", "id"))
        return self.show({**found, "q": text})


class Overview(Page):
    """What runs, what is wrong, what is left of the quota, and what was done lately."""

    template = "dashboard/project/overview.html"
    partials = {"overview": "dashboard/project/_overview.html"}
    section = "overview"

    def get(self, request: HttpRequest, project: str) -> HttpResponse:
        instances = rows.instances_of(self.project)
        counts = count_by_status(Instance.objects.filter(project=self.project))
        troubled = sum(counts.get(status, 0) for status in rows.TROUBLED)
        live = Operation.objects.filter(project_id=self.project.pk, finished_at=None).order_by("-started_at")
        return self.show(
            {
                "cost": costs.of(self.project),
                "usage": in_use(quota.usage(self.project)),
                "counts": counts,
                "total": sum(counts.values()),
                "troubled_count": troubled,
                "troubled": rows.explain(list(rows.troubled(instances)[:MOST_TROUBLED])) if troubled else [],
                "live": list(live[:MOST_TROUBLED]),
                "events": list(rows.events(project=self.project).order_by("-transaction", "-id")[:RECENT_EVENTS]),
                "has_image": images_of(self.project).exists(),
            }
        )


class Activity(Page):
    """What was done in the project, by whom, from what to what."""

    template = "dashboard/project/activity.html"
    partials = {"activity": "dashboard/project/_activity.html"}
    section = "activity"

    def get(self, request: HttpRequest, project: str) -> HttpResponse:
        return self.show(
            {
                **self.slice(narrow_events(rows.events(project=self.project), request), ("-transaction", "-id")),
                "filters": request.GET,
            }
        )


class GettingStarted(Page):
    """The first steps with the API, as texts that work when they are pasted; also fit to be printed."""

    template = "dashboard/project/getting_started.html"
    section = "getting-started"

    def get(self, request: HttpRequest, project: str) -> HttpResponse:
        image = images_of(self.project).order_by("created_at").first()
        flavor = Flavor.objects.filter(enabled=True).order_by("memory_mib", "vcpus", "name").first()
        keypair = KeyPair.objects.filter(project=self.project).order_by("created_at").first()
        facts = getting_started.Facts(
            url=settings.PUBLIC_URL,
            project=self.project.name,
            image=image.name if image else "tiny-linux",
            flavor=flavor.name if flavor else "small",
            keypair=keypair.name if keypair else "",
        )
        return self.show(
            {
                "facts": facts,
                "is_possible": image is not None and flavor is not None,
                "steps": getting_started.shell(facts),
                "program": getting_started.python(facts),
            }
        )


def narrow_events(found: Any, request: HttpRequest) -> Any:
    """The events that the query string asks for: by actor, action, subject and request, as of a moment."""
    asked = {name: request.GET.get(name, "").strip().replace("\x00", "")[:80] for name in request.GET}
    for name, column in (("actor",) * 2, ("subject", "subject_name"), ("subject_id",) * 2, ("request_id",) * 2):
        if text := asked.get(name):
            found = found.filter(**{column: text})
    if moment := moment_of(asked.get("as_of", "")):
        found = reading.as_of(found, moment)
    return reading.of_action(found, asked["action"]) if asked.get("action") else found


def moment_of(text: str) -> datetime | None:
    """What a field for date and time holds, in UTC; None for what is no moment."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


class Members(FormPage):
    template = "dashboard/project/members.html"
    section = "members"
    role_to_change = Role.ADMIN

    def fill(self) -> dict[str, Any]:
        own = Membership.objects.filter(project=self.project).select_related("user")
        return {**self.slice(own, ("created_at", "id"), limit=200), "roles": Role.choices}

    def read(self) -> dict[str, Any]:
        return forms.required(self.request.POST, "user", "role")

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        return self.mutate(
            lambda: services.add_member(
                project=self.project, actor=self.scope.actor, **self.validate(MemberForm, body)
            ),
            body=body,
            to=reverse("members", args=[self.project.name]),
            done=lambda membership: f"{membership.user} is {membership.role} of {self.project} now.",
        )


class OneMember(Page):
    """Gives a member another role, or takes the member out."""

    role_to_change = Role.ADMIN

    def post(self, request: HttpRequest, project: str, user: str) -> HttpResponse:
        membership = (
            Membership.objects.select_related("user", "project").filter(project=self.project, user_id=user).first()
        )
        if membership is None:
            raise NotFound()
        there, name = reverse("members", args=[self.project.name]), membership.user.username
        if request.POST.get("verb") == "remove":
            return self.mutate(
                lambda: services.remove_member(membership=membership, actor=self.scope.actor),
                body={"verb": "remove"},
                to=there,
                done=f"{name} is no longer a member of {self.project}.",
            )
        body = forms.required(request.POST, "role")
        return self.mutate(
            lambda: services.change_role(
                membership=membership, actor=self.scope.actor, **self.validate(MemberChanges, body)
            ),
            body=body,
            to=there,
            done=f"{name} is {body['role']} now.",
        )
