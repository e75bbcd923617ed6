"""Port forwards: one port outside that leads to one port of a machine."""

from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from cloud.pages import forms
from cloud.pages.bulk import ForMany
from cloud.pages.deleting import DeletePage
from cloud.pages.generic import ChangePage, ListPage
from network.api.port_forwards import PortForwardChanges, PortForwardForm
from network.models import FloatingIP, PortForward
from network.pages.base import MAX_CHOICES, NetworkingPage, port_words
from network.pages.fields import choices
from network.services import port_forwards
from network.services.port_forwards import LOOPBACK


class ForwardPage(NetworkingPage):
    model, key, title = PortForward, "forward", "Port forwards"
    listed_at, section = "port-forwards", "floating-ips"
    help = "networks#letting-somebody-in"

    def rows(self) -> "QuerySet[PortForward]":
        related = super().rows().select_related("project", "floating_ip", "target__port__network")
        return related.prefetch_related("target__port__network__on_hosts")


class PortForwards(ForwardPage, ListPage):
    template, form = "network/port_forwards/list.html", PortForwardForm
    sorts = {"port": "listen_port"}
    sort = "port"
    live = "port_forward floating_ip port instance"

    def initial(self) -> dict[str, Any]:
        return {"target_port": 22, **self.request.GET.dict()}

    def tell(self, shown: list[Any]) -> list[Any]:
        return self.with_way_in(shown, lambda forward: forward.target.port)

    def fill(self) -> dict[str, Any]:
        return {**super().fill(), "loopback": LOOPBACK}

    def around(self) -> dict[str, Any]:
        free = FloatingIP.objects.filter(project=self.project, target=None).order_by("name")[:MAX_CHOICES]
        loopback = [(LOOPBACK, f"{LOOPBACK} of the machine's host")] if settings.PUBLISH_ON_LOOPBACK else []
        return {
            **super().around(),
            "listening": [*loopback, *((one.address, f"{one.address} ({one.name})") for one in free)],
            "ports": choices(self.open_ports(), port_words),
        }

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        listen = {"address": post.get("listen", ""), "port": forms.whole(post, "listen_port").get("listen_port")}
        to = {"port": post.get("to", ""), **forms.whole(post, "target_port")}
        listening = {name: value for name, value in listen.items() if value not in ("", None)}
        body = forms.read(post, {"name": forms.TEXT, "protocol": forms.TEXT, "labels": forms.LABELS})
        return {**body, "to": to, **({"listen": listening} if listening else {})}

    def create(self, body: dict[str, Any]) -> PortForward:
        listen = body.pop("listen", {})
        leads = {"floating_ip": listen.get("address"), "listen_port": listen.get("port")}
        return port_forwards.create(actor=self.scope.actor, **leads, **body.pop("to"), **body)

    def created(self, made: PortForward) -> str:
        address = made.floating_ip.address if made.floating_ip else LOOPBACK
        return f"{address}:{made.listen_port} leads to {made.target}:{made.target_port}."

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeletePortForward),)


class ChangePortForward(ForwardPage, ChangePage):
    """Its name and labels."""

    template, form = "network/port_forwards/change.html", PortForwardChanges
    fields = {"name": forms.REQUIRED, "labels": forms.LABELS}

    def change(self, changes: dict[str, Any]) -> PortForward:
        return port_forwards.update(forward=self.item, actor=self.scope.actor, changes=changes)


class DeletePortForward(ForwardPage, DeletePage):
    kind = "port_forward"

    def delete(self) -> None:
        port_forwards.delete(forward=self.item, actor=self.scope.actor)
