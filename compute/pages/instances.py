"""The list of instances, one instance, and what can be done with it."""

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from django.db.models import QuerySet
from django.http import HttpResponse

from cloud.costs import sums
from cloud.events import reading
from cloud.operations.models import Operation
from cloud.pages import forms
from cloud.pages.base import Undo
from cloud.pages.generic import ChangePage, ItemFormPage, ItemPage, ListPage, ResourcePage, VerbPage
from cloud.pages.lists import By
from cloud.tenancy.models import Role, SavedView
from compute import boots, console_logs, logins, reaching, services, volumes
from compute.api.instances import InstanceChanges
from compute.models import Instance
from compute.pages import metrics, nics, offers, rows
from compute.pages.actions import Action, actions_for, dialog_of
from compute.pages.saved_views import query_of
from compute.placement.explain import explain
from compute.placement.rules import Wish
from compute.status import STATUSES, count_by_status, count_of_project, with_status
from compute.verb import Verb
from compute.verbs import VERBS

LINES_SHOWN = 200


class InstancePage(ResourcePage):
    model, key, title = Instance, "instance", "Instances"
    listed_at = section = "instances"
    help = "instances#starting-stopping-and-more"

    def rows(self) -> "QuerySet[Instance]":
        return rows.instances_of(self.project)


class InstanceTable(InstancePage, ListPage):
    """What the list of a project and that of the whole cloud share."""

    sorts: ClassVar[Mapping[str, str | tuple[str, ...]]] = {
        "age": "-created_at",
        "name": "name",
        "status": "status",
        "image": "image__name",
        "flavor": ("vcpus", "memory_mib", "flavor__name"),
        "owner": "created_by",
    }
    sort = "age"
    filters: ClassVar[tuple[By, ...]] = (
        By("image", "image__name"),
        By("flavor", "flavor__name"),
        By("owner", "created_by"),
        By("host", "machine__host__name", for_cloud_admins=True),
    )
    statuses = STATUSES
    troubled = rows.TROUBLED
    live = "instance operation"

    @property
    def own_sorts(self) -> Mapping[str, str | tuple[str, ...]]:
        """Tenants are not told, not even by an order, which instances are on one host."""
        return {**self.sorts, "host": "machine__host__name"} if self.scope.is_cloud_admin else self.sorts

    def of_status(self, found: "QuerySet[Instance]", status: str) -> "QuerySet[Any]":
        return super().of_status(with_status(found), status)

    def count_by_status(self, found: "QuerySet[Instance]") -> dict[str, int]:
        return count_by_status(found)

    def adorn(self, found: "QuerySet[Instance]") -> "QuerySet[Any]":
        return rows.listed(found)


class InstanceList(InstanceTable):
    """Filter and order are in the URL: a link shows the same list."""

    template = "compute/instances/list.html"

    def rows(self) -> "QuerySet[Instance]":
        return Instance.objects.filter(project=self.project, trashed_at=None)

    def count_by_status(self, found: "QuerySet[Instance]") -> dict[str, int]:
        return super().count_by_status(found) if self.asked.is_narrowed else count_of_project(self.project.pk)

    def part_of(self, found: "QuerySet[Any]", sort: str, begin: int) -> list[Any]:
        """What the list opens with comes by a query that is prepared."""
        if self.asked.is_narrowed or sort != self.sort or begin:
            return super().part_of(found, sort, begin)
        return rows.newest.rows(self.project.pk)

    def around(self) -> dict[str, Any]:
        own_views = SavedView.objects.filter(project=self.project, user=self.scope.user)
        views, shown_query = list(own_views.order_by("name")), query_of(self.request.GET)
        return {
            **super().around(),
            "views": views,
            "shown_query": shown_query,
            "kept": parse_qsl(shown_query),
            "is_saved": any(view.query == shown_query for view in views),
        }

    def bulk_verbs(self) -> tuple[Verb, ...]:
        return tuple(VERBS.values())


class InstanceItemPage(InstancePage, ItemPage):
    """Base of the pages about one instance."""

    gone = "It may be in the trash, or deleted for good."

    def rows(self) -> "QuerySet[Instance]":
        return super().rows().defer(None)

    def elsewhere(self) -> list[tuple[str, str]]:
        if self.scope.project is None:
            return []
        history = f"{self.route('activity')}?subject_id={self.kwargs['instance']}"
        return [("Look into the trash", self.route("trash")), ("What was done with it", history)]

    def after(self) -> str:
        return self.route("instance", self.item.pk)

    def actions(self) -> dict[str, Action]:
        return actions_for(self.item, role=self.scope.role)


class OneInstance(InstanceItemPage):
    """Status and why; the work under way and how far it is; the console's log; what was done."""

    template = "compute/instances/instance.html"
    partials = {
        "instance-head": "compute/instances/_head.html",
        "instance-work": "compute/instances/_work.html",
        "instance-facts": "compute/instances/_facts.html",
        "instance-login": "compute/instances/_log_in.html",
        "instance-nics": "compute/instances/_nics.html",
        "instance-volumes": "compute/instances/_volumes.html",
        "instance-events": "compute/instances/_events.html",
        "console-log": "compute/instances/_log.html",
        "metrics": "compute/instances/_metrics.html",
        "instance-boot": "compute/instances/_boot.html",
    }

    def fill(self) -> dict[str, Any]:
        part = self.part_wanted
        context: dict[str, Any] = {**super().fill(), "actions": self.actions().values()}
        if part in ("", "instance-work"):
            context |= self.work()
        if part in ("", "console-log"):
            context |= console_log(self.item, LINES_SHOWN)
        if part in ("", "instance-events"):
            found = reading.log(subject=("instance", self.item.pk)).order_by("-transaction", "-id")
            context["events"] = list(found[:20])
        if part in ("", "instance-nics", "instance-login"):
            plugged = reaching.plugged(self.item)
            context |= {"nics": nics.told(plugged), "way": reaching.ssh_way(self.item, plugged)}
        if part in ("", "instance-volumes"):
            context["attachments"] = list(volumes.held_by(self.item))
        if part in ("", "instance-facts"):
            context["cost"] = sums.of(self.project, resource=str(self.item.pk))
        if part in ("", "instance-boot"):
            context["boot"] = boots.timeline(self.item)
        if part in ("", "metrics"):
            context |= metrics.shown(self.item, self.request.GET)
        if not part:
            context["may_read_user_data"] = self.may(Role.MEMBER)
        return context

    def work(self) -> dict[str, Any]:
        """The live operation with its steps, and the ones before it."""
        found = list(Operation.objects.filter(subject_id=self.item.pk).order_by("-started_at")[:6])
        live = next((operation for operation in found if operation.finished_at is None), None)
        return {"live": live, "past": [operation for operation in found if operation.finished_at]}


def console_log(instance: Instance, lines: int) -> dict[str, Any]:
    found, truncated = console_logs.end(instance, lines=lines)
    return {"log_lines": found, "log_truncated": truncated}


class OpenSsh(InstanceItemPage, VerbPage):
    """Makes what is missing for its SSH to be reached."""

    def act(self) -> None:
        reaching.open_ssh(instance=self.item, actor=self.scope.actor)

    def done(self, result: None) -> str:
        return f"{self.item.name} can be reached by SSH now."

    def after(self) -> str:
        to = self.request.POST.get("to", "")
        return to if to.startswith("/projects/") else super().after()


class Placement(InstanceItemPage):
    """Why it is where it is, or nowhere: every rule, as it stands now."""

    template = "compute/instances/placement.html"
    help = "instances#where-it-runs"
    partials = {"placement": "compute/instances/_placement.html"}

    def fill(self) -> dict[str, Any]:
        explanation = explain(Wish.of(self.item))
        shown = explanation.for_admin() if self.scope.is_cloud_admin else explanation.for_tenant()
        return {**super().fill(), "explanation": shown, "decision": self.item.placement}


class DoVerb(InstanceItemPage, ItemFormPage):
    """Any verb. Asks first where something could be lost, and says what."""

    template = "compute/instances/verb.html"
    partials = {"dialog-body": "compute/instances/_verb.html"}

    @property
    def verb(self) -> Verb:
        return VERBS[self.kwargs["verb"]]

    def fill(self) -> dict[str, Any]:
        path = f"projects/{self.project.name}/instances/{self.item.name}"
        body = {"name": f"{self.item.name}-copy", "count": 1} if self.verb.makes_instances else {}
        call = path if self.verb.method == "DELETE" else f"{path}/{self.verb.name}"
        return {
            **super().fill(),
            "action": self.actions()[self.verb.name],
            "dialog": dialog_of(self.verb.name),
            "says": self.verb.says,
            "suggested_name": f"{self.item.name}-copy",
            **offers.of(self.verb.name, self.project, self.item),
            "chosen": self.request.GET.get("chosen", ""),
            "curl": forms.as_curl(self.verb.method, call, None if self.verb.method == "DELETE" else body),
        }

    def read(self) -> dict[str, Any]:
        said = forms.body(self.request.POST, self.verb.body)
        optional = {name for name, field in self.verb.body().fields.items() if not field.required}
        return {name: value for name, value in said.items() if value != "" or name not in optional}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        verb, instance = self.verb, self.item
        to = self.request.POST.get("to", "")
        if verb.makes_instances or verb.method == "DELETE":
            to = self.the_list
        elif not to.startswith(("/projects/", "/cloud/")):
            to = self.after()
        wish, shows = body, None
        if verb.generates_password and "password" not in body:
            wish, shows = {**body, "password": self.generated_password()}, self.show_password
        return self.mutate(
            lambda: verb.service(instance=instance, actor=self.scope.actor, **self.validate(verb.body, wish)),
            body=body,
            to=to,
            done=f"{instance.name} is {verb.doing}.",
            undo=lambda: self.undo(to),
            secret=shows,
            again=self.show_again if shows else None,
        )

    def generated_password(self) -> str:
        """The same one for the same form, so that sending it twice does not lose it."""
        form_key = self.request.POST.get("form_key", "")
        return logins.generated(self.verb.name, self.scope.caller, form_key, str(self.item.pk))

    def show_again(self) -> HttpResponse | None:
        """The password that was generated for this form, as long as it is the last one."""
        reset = self.item.password_reset
        return self.show_password() if reset and logins.matches(self.generated_password(), reset["hash"]) else None

    def show_password(self, done: Operation | None = None) -> HttpResponse:
        """What is shown once."""
        self.item = self.find_item()
        user = self.item.password_reset["user"]
        context = {"instance": self.item, "password": self.generated_password(), "user": user}
        return self.show(context, template="compute/instances/password.html")

    def undo(self, to: str) -> Undo | None:
        """The form that takes it back; of a delete, where it went through the trash."""
        if back := self.verb.taken_back_by:
            return self.route("instance-verb", self.item.pk, back), {"to": to}
        is_in_trash = Instance.objects.filter(pk=self.item.pk, trashed_at__isnull=False).exists()
        return (self.route("restore-from-trash", "instance", self.item.pk), {}) if is_in_trash else None


class Change(InstanceItemPage, ChangePage):
    """Name, labels, restart policy and protection: what no host needs to hear of."""

    template, form = "compute/instances/change.html", InstanceChanges
    fields = {"name": forms.REQUIRED, "restart_policy": forms.REQUIRED, "labels": forms.LABELS,
              "protected": forms.FLAG}  # fmt: skip

    def fill(self) -> dict[str, Any]:
        return {**super().fill(), "policies": rows.RESTART_POLICIES}

    def change(self, changes: dict[str, Any]) -> Instance:
        return services.update(instance=self.item, actor=self.scope.actor, **changes)
