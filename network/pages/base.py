"""What pages about networks share."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from django.db.models import Model, QuerySet

from cloud.pages.generic import ResourcePage
from network.models import Port, RouterOnHost
from network.services.ports import ROUTER
from network.status import Status, any_carries, of_way_in

MAX_CHOICES = 500  # of a select
Row = TypeVar("Row", bound=Model)


class NetworkingPage(ResourcePage):
    """Base of all of them. Statuses are those of the API."""

    section = "networks"
    help = "networks#more-networks"

    def with_status(self, rows: Iterable[Row], find: Callable[..., Status]) -> list[tuple[Row, Status]]:
        carried = any_carries()
        return [(row, find(row, carried=carried)) for row in rows]

    def with_way_in(self, rows: Iterable[Row], port_of: Callable[[Row], Port | None]) -> list[tuple[Row, Status]]:
        """Of what leads in from outside: with whether it does."""
        routers = list(RouterOnHost.objects.filter(router__project=self.project))
        return self.with_status(rows, lambda row, *, carried: of_way_in(row.pk, port_of(row), routers, carried=carried))

    def open_ports(self) -> "QuerySet[Port]":
        """The ports that something from outside may lead to, those of machines first."""
        own = Port.objects.filter(project=self.project).exclude(holder_type=ROUTER).select_related("network")
        return own.prefetch_related("addresses").order_by("-holder_name", "name")[:MAX_CHOICES]


def port_words(port: Port) -> str:
    """A port for people who choose one: "web: 10.0.0.5 on default"."""
    addresses = ", ".join(one.address for one in port.addresses.all()) or "no address"
    return f"{port.holder_name or port.name}: {addresses} on {port.network.name}"
