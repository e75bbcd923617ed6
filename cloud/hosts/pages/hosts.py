"""Hosts: what they have left, when they were last heard, what runs there, and what an admin decides about them."""

from datetime import datetime
from typing import Any

from django.db.models import F, Func, IntegerField, Q, QuerySet
from django.http import HttpRequest, HttpResponse

from cloud.events import reading
from cloud.hosts import load, lost, services
from cloud.hosts.api.views import HostChanges, LossForm
from cloud.hosts.models import Host
from cloud.hosts.silence import reachable_since
from cloud.pages import forms, plots, sections
from cloud.pages.generic import ChangePage, ItemFormPage, ItemPage, ListPage, ResourcePage
from cloud.pages.plots import Plot

HEARD = "Not heard yet: each minute has one value."

PLOTS = (
    Plot("CPU", "percent", {"cpu_percent": "CPU"}, why=HEARD),
    Plot("Memory", "MiB", {"memory_mib": "used"}, why=HEARD),
    Plot("Disk", "GiB", {"disk_gib": "used"}, why=HEARD),
)

FATES = {
    "lost": "This is lost:",
    "taken_over": "This goes on at another host, as soon as one has room:",
    "interrupted": "This leads nowhere until what it leads to is started elsewhere:",
}


def listed() -> "QuerySet[Host]":
    """Hosts with their pulse, whether they are reachable, what is placed on them, and how many vCPUs they sell."""
    return (
        Host.objects.select_related("pulse")
        .defer("capabilities", "pulse__inventory", "token_digest", "redis_password_digest")
        .annotate(
            seen_at=F("pulse__seen_at"),
            reachable=Q(pulse__seen_at__gte=reachable_since()),
            sold_vcpus=Func(F("vcpus") * F("vcpu_overcommit"), function="floor", output_field=IntegerField()),
            **sections.counts("host"),
        )
    )


class HostPage(ResourcePage):
    model, key, title = Host, "host", "Hosts"
    listed_at = section = "hosts"
    help = "operating#everyday"
    for_cloud_admins = True

    def rows(self) -> "QuerySet[Host]":
        return listed()


class Hosts(HostPage, ListPage):
    template = "hosts/list.html"
    sorts = {
        "name": "name",
        "vcpus": "-free_vcpus",
        "memory": "-free_memory_mib",
        "disk": "-free_disk_gib",
        "load": "-pulse__load__cpu_percent",
        "instances": "-instance_count",
    }
    live = "host instance"


class OneHost(HostPage, ItemPage):
    template = "hosts/host.html"
    partials = {"host": "hosts/_host.html"}

    def fill(self) -> dict[str, Any]:
        capabilities = Host.objects.values_list("capabilities", flat=True).get(pk=self.item.pk)
        return {
            **super().fill(),
            "capabilities": capabilities,
            "hypervisors": ways(capabilities),
            "jail": layers(capabilities.get("jail", {})),
            **({} if self.part_wanted else self.metrics()),
            "events": list(reading.log(subject=("host", self.item.pk)).order_by("-transaction", "-id")[:10]),
        }

    def metrics(self) -> dict[str, Any]:
        """What it has used over the span or the range that is asked for."""
        asked = load.RANGES.asked(self.request.GET)
        series = load.series(self.item, asked.span)
        values = {name: each["values"] for name, each in series["metrics"].items()}
        start = datetime.fromisoformat(series["start"])
        return plots.shown(PLOTS, values, asked, load.SPANS, start=start, since=self.item.created_at)


def ways(capabilities: dict[str, Any]) -> list[dict[str, str]]:
    """How a host can run machines: hypervisor, version, architecture, accelerator, and why there is no better one."""
    return [
        {
            "hypervisor": hypervisor,
            "version": str(facts.get("version", "")),
            "architecture": architecture,
            "accelerator": str(how.get("accelerator") or "tcg"),
            "why": str(how.get("kvm") or ""),
        }
        for hypervisor, facts in capabilities.get("hypervisors", {}).items()
        for architecture, how in facts.get("architectures", {}).items()
    ]


def layers(jail: dict[str, Any]) -> list[dict[str, Any]]:
    """What confines a host's emulators, and why something of it does not."""
    return [
        {
            "name": layer.replace("_", " ") + (f" {state}" if isinstance(state, str) else ""),
            "is_there": bool(state),
            "why": "" if state else jail.get("missing", {}).get(layer, ""),
        }
        for layer, state in jail.items()
        if layer != "missing"
    ]


class ChangeHost(HostPage, ItemPage):
    """Into service, out of service, or forgotten."""

    http_method_names = ("post",)

    def post(self, request: HttpRequest, host: str) -> HttpResponse:
        verb = request.POST.get("verb")
        name, actor = self.item.name, self.scope.actor
        found = Host.objects.get(pk=self.item.pk)
        if verb == "remove":
            return self.mutate(
                lambda: services.remove(found, actor=actor),
                body={"verb": verb},
                to=self.the_list,
                done=f"{name} is no longer a host of this cloud.",
            )
        enabled = verb == "enable"
        done = (
            "takes new instances again"
            if enabled
            else "is cordoned: no new instances are placed there, existing ones stay"
        )
        return self.mutate(
            lambda: services.update(found, actor=actor, enabled=enabled),
            body={"verb": verb},
            to=self.route("host", found.pk),
            done=f"{name} {done}.",
        )


class DeclareLost(HostPage, ItemFormPage):
    """What becomes of what is on a host that is gone for good, before that is said."""

    template = "hosts/lost.html"
    partials = {"dialog-body": "hosts/_lost.html"}
    help = "operating#a-host-is-gone-for-good"

    def fill(self) -> dict[str, Any]:
        stakes = lost.at_stake(self.item)
        found = [(title, [one for one in stakes if one.fate == fate]) for fate, title in FATES.items()]
        return {**super().fill(), "fates": [(title, those) for title, those in found if those]}

    def read(self) -> dict[str, Any]:
        posted = self.request.POST
        return forms.required(posted, "confirm") | {"leave_behind": "leave_behind" in posted}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        how = self.validate(LossForm, body)
        return self.mutate(
            lambda: lost.declare(Host.objects.get(pk=self.item.pk), actor=self.scope.actor, **how),
            body=body,
            to=self.route("host", self.item.pk),
            done=f"{self.item.name} is declared lost. What was on it is given up now, or goes on elsewhere.",
        )


class HostSettings(HostPage, ChangePage):
    """How many vCPUs its processors are sold as, and its labels."""

    template, form = "hosts/settings.html", HostChanges
    fields = {"vcpu_overcommit": forms.NUMBER, "labels": forms.LABELS}

    def after(self) -> str:
        return self.route("host", self.item.pk)

    def change(self, changes: dict[str, Any]) -> Host:
        return services.update(Host.objects.get(pk=self.item.pk), actor=self.scope.actor, **changes)
