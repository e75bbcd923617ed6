"""How much more the cloud can take, and what taking a host out of it would do."""

from typing import Any

from django.http import HttpRequest, HttpResponse

from cloud.hosts.pages.hosts import HostPage, listed
from cloud.pages.base import Page
from cloud.pages.generic import ItemPage
from compute.placement import capacity, emptying


class Capacity(Page):
    """How much more fits, host by host."""

    template = "compute/capacity/capacity.html"
    partials = {"capacity": "compute/capacity/_capacity.html", "hosts": "hosts/_list.html"}
    section = "capacity"
    help = "operating#everyday"
    for_cloud_admins = True

    def get(self, request: HttpRequest) -> HttpResponse:
        context: dict[str, Any] = self.slice(listed(), ("name", "id"))
        if request.headers.get("HX-Target") != "hosts":
            context |= {"totals": capacity.totals(), "fits": capacity.fits(), "kinds": capacity.image_kinds()}
        return self.show(context)


class Cordon(HostPage, ItemPage):
    """What taking a host out of service would do, before it is done."""

    template = "compute/capacity/cordon.html"
    partials = {"dialog-body": "compute/capacity/_cordon.html", "moves": "compute/capacity/_moves.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if "moves" in request.GET:
            return self.show({"host": self.item, **self.moves()}, template="compute/capacity/_moves.html")
        now, then = capacity.fits(), capacity.fits(without=self.item.pk)
        lines = [
            {"flavor": flavor, "kind": before.kind, "before": before.count, "after": after.count}
            for (flavor, fits), (_, rest) in zip(now, then, strict=True)
            for before, after in zip(fits, rest, strict=True)
            if before.count
        ]
        return self.show({"host": self.item, "lines": lines})

    def moves(self) -> dict[str, Any]:
        """Where each instance would go, if the host had to be emptied; those without a place first."""
        found = emptying.simulate(self.item.pk)
        stuck = [move for move in found if not move.host]
        return {"moves": stuck + [move for move in found if move.host], "stuck": len(stuck), "most": emptying.MAX_TRIED}
