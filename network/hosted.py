"""Networks and routers as kinds of resources on hosts."""

from cloud.hosts.resources import HostedResource, register
from network import hosting, reconcile, specs
from network.models import NetworkOnHost, RouterOnHost
from network.models.hosted import PRESENT

FACTS = {"problems": {str: str}}  # in words, by the ids of its parts

register(
    HostedResource(
        type=hosting.NETWORK,
        model=NetworkOnHost,
        states=frozenset({PRESENT}),
        spec=specs.network,
        noticed=hosting.noticed,
        reconcile=reconcile.networks,
        lose=hosting.lose,
        at_stake=hosting.at_stake,
        related=("network__project",),
        project="network__project_id",
        facts=FACTS,
        comes_first=True,
    )
)
register(
    HostedResource(
        type=hosting.ROUTER,
        model=RouterOnHost,
        states=frozenset({PRESENT}),
        spec=specs.router,
        noticed=hosting.noticed,
        reconcile=reconcile.routers,
        lose=hosting.lose,
        related=("router",),
        project="router__project_id",
        facts=FACTS,
    )
)
