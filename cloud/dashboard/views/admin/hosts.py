"""Hosts: what they have left, when they were last heard, what runs there, and what an admin decides about them."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.api.errors import NotFound
from cloud.dashboard import rows
from cloud.hosts import services
from cloud.hosts.api.views import HostChanges
from cloud.hosts.models import Host
from cloud.pages import forms
from cloud.pages.base import FormPage, Page
from cloud.pages.rows import search
from compute.models import Instance
from compute.status import with_status


class Hosts(Page):
    template = "dashboard/admin/hosts.html"
    partials = {"hosts": "dashboard/admin/_hosts.html"}
    section = "hosts"
    for_cloud_admins = True

    def get(self, request: HttpRequest) -> HttpResponse:
        text = request.GET.get("q", "")
        return self.show({**self.slice(search(rows.hosts(), text), ("name", "id")), "q": text})


class OneHost(Page):
    template = "dashboard/admin/host.html"
    partials = {"host": "dashboard/admin/_host.html"}
    section = "hosts"
    for_cloud_admins = True
    host: Any

    def enter(self, **kwargs: Any) -> None:
        super().enter(**kwargs)
        self.host = rows.hosts().defer("pulse__inventory").filter(pk=kwargs["host"]).first()
        if self.host is None:
            raise NotFound()

    def get(self, request: HttpRequest, host: str) -> HttpResponse:
        placed = with_status(
            Instance.objects.filter(host=self.host)
            .defer("user_data", "seen_facts", "placement")
            .select_related("flavor", "image", "host", "project")
        )
        page = self.slice(placed, ("name", "id"))
        rows.explain(page["rows"])
        capabilities = Host.objects.values_list("capabilities", flat=True).get(pk=self.host.pk)
        return self.show(
            {
                "host": self.host,
                **page,
                "capabilities": capabilities,
                "hypervisors": ways(capabilities),
                "jail": layers(capabilities.get("jail", {})),
                "events": list(rows.events(subject=("host", self.host.pk)).order_by("-transaction", "-id")[:10]),
            }
        )


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


class ChangeHost(OneHost):
    """Into service, out of service, or forgotten."""

    http_method_names = ("post",)

    def post(self, request: HttpRequest, host: str) -> HttpResponse:
        verb = request.POST.get("verb")
        name, actor = self.host.name, self.scope.actor
        found = Host.objects.get(pk=self.host.pk)
        there = reverse("host", args=[found.pk])
        if verb == "remove":
            return self.mutate(
                lambda: services.remove(found, actor=actor),
                body={"verb": verb},
                to=reverse("hosts"),
                done=f"{name} is no longer a host of this cloud.",
            )
        enabled = verb == "enable"
        done = "takes instances again" if enabled else "takes nothing new; what runs there goes on running"
        return self.mutate(
            lambda: services.update(found, actor=actor, enabled=enabled),
            body={"verb": verb},
            to=there,
            done=f"{name} {done}.",
        )


class HostSettings(OneHost, FormPage):
    """How many vCPUs its processors are sold as, and its labels."""

    template = "dashboard/admin/host_settings.html"
    partials = {}

    def get(self, request: HttpRequest, host: str) -> HttpResponse:  # type: ignore[override]
        return FormPage.get(self, request)

    def fill(self) -> dict[str, Any]:
        return {"host": self.host}

    def initial(self) -> dict[str, Any]:
        overcommit = f"{self.host.vcpu_overcommit:g}"
        return {"vcpu_overcommit": overcommit, "labels": forms.labels_as_text(self.host.labels)}

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        overcommit = {**forms.required(post, "vcpu_overcommit"), **forms.number(post, "vcpu_overcommit")}
        return {**overcommit, "labels": forms.labels(post)}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        found = Host.objects.get(pk=self.host.pk)
        return self.mutate(
            lambda: services.update(found, actor=self.scope.actor, **self.validate(HostChanges, body, partial=True)),
            body=body,
            to=reverse("host", args=[found.pk]),
            done="Changed.",
            undo=(self.request.path, self.initial()),
        )
