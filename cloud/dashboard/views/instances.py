"""The list of instances, one instance, and what can be done with it."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.api.errors import NotFound
from cloud.dashboard import rows
from cloud.dashboard.actions import Action, actions_for, dialog_of
from cloud.dashboard.views import metrics
from cloud.dashboard.views.bulk import take_results
from cloud.dashboard.views.saved_views import query_of
from cloud.events import reading
from cloud.pages import forms
from cloud.pages.base import FormPage, Page
from cloud.pages.rows import search
from cloud.tenancy.models import Role, SavedView
from compute import boots, console_logs, costs, services
from compute.api.instances import InstanceChanges
from compute.models import Instance, RestartPolicy
from compute.placement.explain import explain
from compute.placement.rules import Wish
from compute.status import STATUSES, count_by_status
from compute.verbs import VERBS, Verb

LINES_SHOWN = 200


class InstanceList(Page):
    """Filter and order are in the URL: a link shows the same list."""

    template = "dashboard/instances/list.html"
    partials = {"instances": "dashboard/instances/_list.html"}
    section = "instances"

    def get(self, request: HttpRequest, project: str) -> HttpResponse:
        asked = {name: request.GET.get(name, "").strip() for name in ("q", "status", "flavor", "sort")}
        found = search(rows.instances_of(self.project), asked["q"])
        if asked["status"] in STATUSES:
            found = found.filter(status=asked["status"])
        elif asked["status"] == "trouble":
            found = rows.troubled(found)
        if asked["flavor"]:
            found = found.filter(flavor__name=asked["flavor"][:63].replace("\x00", ""))
        page = self.slice(found, rows.SORTS.get(asked["sort"], rows.SORTS["newest"]))
        rows.explain(page["rows"])
        for instance in page["rows"]:
            every = actions_for(instance, role=self.scope.role).values()
            instance.actions = [action for action in every if action.verb.in_rows]
        counts = count_by_status(Instance.objects.filter(project=self.project))
        part = request.headers.get("HX-Target")
        own_views = SavedView.objects.filter(project=self.project, user=self.scope.user)
        views, shown_query = [] if part else list(own_views.order_by("name")), query_of(asked)
        return self.show(
            {
                **page,
                "asked": asked,
                "counts": counts,
                "total": sum(counts.values()),
                "views": views,
                "verbs": VERBS.values(),
                "shown_query": shown_query,
                "is_saved": any(view.query == shown_query for view in views),
                "results": None if part else take_results(request, self.project.pk),
                "is_filtered": any(asked[name] for name in ("q", "status", "flavor")),
            }
        )


class InstancePage(Page):
    """Base of the pages about one instance."""

    section = "instances"
    instance: Any

    def enter(self, **kwargs: Any) -> None:
        super().enter(**kwargs)
        whole = rows.instances_of(self.project).defer(None)
        found = whole.filter(pk=kwargs["instance"]).first()
        if found is None:
            raise NotFound("It may have been deleted. The project's activity tells.")
        self.instance = rows.explain([found])[0]

    @property
    def here(self) -> str:
        return reverse("instance", args=[self.project.name, self.instance.pk])

    def actions(self) -> dict[str, Action]:
        return actions_for(self.instance, role=self.scope.role)


class OneInstance(InstancePage):
    """Status and why; the work under way and how far it is; the console's log; what was done."""

    template = "dashboard/instances/instance.html"
    partials = {
        "instance-head": "dashboard/instances/_head.html",
        "instance-work": "dashboard/instances/_work.html",
        "instance-facts": "dashboard/instances/_facts.html",
        "instance-events": "dashboard/instances/_events.html",
        "console-log": "dashboard/instances/_log.html",
        "metrics": "dashboard/instances/_metrics.html",
        "instance-boot": "dashboard/instances/_boot.html",
    }

    def get(self, request: HttpRequest, project: str, instance: str) -> HttpResponse:
        part = request.headers.get("HX-Target", "")
        context: dict[str, Any] = {"instance": self.instance, "actions": self.actions().values()}
        if part in ("", "instance-work"):
            context |= self.work()
        if part in ("", "console-log"):
            context |= console_log(self.instance, LINES_SHOWN)
        if part in ("", "instance-events"):
            found = reading.log(subject=("instance", self.instance.pk)).order_by("-transaction", "-id")
            context["events"] = list(found[:20])
        if part in ("", "instance-facts"):
            context["cost"] = costs.of(self.project, instance=str(self.instance.pk))
        if part in ("", "instance-boot"):
            context["boot"] = boots.timeline(self.instance)
        if part in ("", "metrics"):
            context |= metrics.shown(self.instance, request.GET.get("span", ""))
        if not part:
            context |= {
                "policies": [(policy, label) for policy, label in RestartPolicy.choices],
                "labels_text": forms.labels_as_text(self.instance.labels),
                "may_read_user_data": self.may(Role.MEMBER),
            }
        return self.show(context)

    def work(self) -> dict[str, Any]:
        """The live operation with its steps, and the ones before it."""
        found = list(rows.operations_of(self.instance.pk)[:6])
        live = next((operation for operation in found if operation.finished_at is None), None)
        return {"live": live, "past": [operation for operation in found if operation.finished_at]}


def console_log(instance: Instance, lines: int) -> dict[str, Any]:
    found, truncated = console_logs.end(instance, lines=lines)
    return {"log_lines": found, "log_truncated": truncated}


class Placement(InstancePage):
    """Why it is where it is, or nowhere: every rule, as it stands now."""

    template = "dashboard/instances/placement.html"
    partials = {"placement": "dashboard/instances/_placement.html"}

    def get(self, request: HttpRequest, project: str, instance: str) -> HttpResponse:
        explanation = explain(Wish.of(self.instance))
        shown = explanation.for_admin() if self.scope.is_cloud_admin else explanation.for_tenant()
        return self.show({"instance": self.instance, "explanation": shown, "decision": self.instance.placement})


class DoVerb(FormPage, InstancePage):
    """Any verb. Asks first where something could be lost, and says what."""

    template = "dashboard/instances/verb.html"
    partials = {"dialog-body": "dashboard/instances/_verb.html"}

    @property
    def verb(self) -> Verb:
        return VERBS[self.kwargs["verb"]]

    def fill(self) -> dict[str, Any]:
        path = f"projects/{self.project.name}/instances/{self.instance.name}"
        body = {"name": f"{self.instance.name}-copy", "count": 1} if self.verb.makes_instances else {}
        call = path if self.verb.method == "DELETE" else f"{path}/{self.verb.name}"
        return {
            "instance": self.instance,
            "action": self.actions()[self.verb.name],
            "dialog": dialog_of(self.verb.name),
            "says": self.verb.says,
            "curl": forms.as_curl(self.verb.method, call, None if self.verb.method == "DELETE" else body),
        }

    def read(self) -> dict[str, Any]:
        return forms.body(self.request.POST, self.verb.body)

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        verb, instance = self.verb, self.instance
        to = self.request.POST.get("to", "")
        if verb.makes_instances or verb.method == "DELETE":
            to = reverse("instances", args=[self.project.name])
        elif not to.startswith("/projects/"):
            to = self.here
        back = verb.taken_back_by
        undo = (reverse("instance-verb", args=[self.project.name, instance.pk, back]), {"to": to}) if back else None
        return self.mutate(
            lambda: verb.service(instance=instance, actor=self.scope.actor, **self.validate(verb.body, body)),
            body=body,
            to=to,
            done=f"{instance.name} is {verb.doing}.",
            undo=undo,
        )


class Change(InstancePage, FormPage):
    """Name, labels and restart policy: what no host needs to hear of."""

    template = "dashboard/instances/change.html"

    def fill(self) -> dict[str, Any]:
        return {"instance": self.instance, "policies": RestartPolicy.choices}

    def initial(self) -> dict[str, Any]:
        return {
            "name": self.instance.name,
            "labels": forms.labels_as_text(self.instance.labels),
            "restart_policy": self.instance.restart_policy,
        }

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        return {**forms.required(post, "name", "restart_policy"), "labels": forms.labels(post)}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        return self.mutate(
            lambda: services.update(
                instance=self.instance,
                actor=self.scope.actor,
                **self.validate(InstanceChanges, body, partial=True),
            ),
            body=body,
            to=self.here,
            done="Changed.",
            undo=(self.request.path, self.initial()),
        )
