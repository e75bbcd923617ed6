"""What must always hold of networks: addresses belong to their networks, and hosts have what they need, no more."""

from collections.abc import Iterator
from functools import partial
from itertools import combinations
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q

from cloud.operations.invariants import Breach, invariant
from cloud.tenancy.models import Project
from network import addressing, hosting
from network.models import Address, NetworkOnHost, Router, RouterOnHost
from network.services import routers
from network.services.ports import ROUTER


@invariant("I10", "Every address is in its port's subnet, and is not its gateway")
def addresses_belong() -> Iterator[Breach]:
    astray = Address.objects.exclude(address__within=F("subnet__cidr"), subnet__network=F("port__network"))
    for one in astray.select_related("subnet", "port").order_by("pk"):
        words = f"{one.port} has the address {one.address}, which does not belong to {one.subnet}"
        yield Breach(words, str(one.port_id), advice="Delete the port, or detach it and create another one.")
    gateways = Address.objects.filter(~Q(port__holder_type=ROUTER), address=F("subnet__gateway"))
    for one in gateways.select_related("subnet", "port").order_by("pk"):
        words = f"{one.port} has the address {one.address}, which is the gateway of {one.subnet}"
        yield Breach(words, str(one.port_id), advice="Delete the port, or detach it and create another one.")


@invariant("I10", "A router's subnets do not overlap")
def joined_subnets_do_not_overlap() -> Iterator[Breach]:
    for router in Router.objects.order_by("pk"):
        for one, other in combinations([leg.subnet for leg in routers.legs(router)], 2):
            if addressing.overlaps(one.cidr, other.cidr):
                words = f"{router} joins {one} ({one.cidr}) and {other} ({other.cidr}), which overlap"
                yield Breach(words, str(router.pk), advice="Detach one of them.")


@invariant("I11", "A host has the networks that its instances need, and no others")
def hosts_have_what_they_need() -> Iterator[Breach]:
    for project in Project.objects.order_by("name"):
        networks, gates = hosting.wanted(project.pk)
        rows = NetworkOnHost.objects.filter(network__project=project, wanted=True)
        gate_rows = RouterOnHost.objects.filter(router__project=project, wanted=True)
        there = set(rows.values_list("network_id", "host_id"))
        gates_there = set(gate_rows.values_list("router_id", "host_id"))
        wrong = len(there ^ networks) + len(gates_there ^ gates)
        if wrong:
            words = f"{project}: {wrong} networks or routers are missing on a host, or are not needed there"
            yield Breach(words, str(project.pk), repair=partial(_settle, project.pk))


@transaction.atomic
def _settle(project_id: UUID) -> None:
    hosting.changed(project_id, places=True)
