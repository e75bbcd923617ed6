"""A small cloud whose nodes carry networks."""

from pathlib import Path
from typing import Any
from uuid import uuid4

from django.db import transaction

from cloud.hosts.models import Host
from cloud.tenancy import new_projects
from network.models import Network, Port, SecurityGroup
from network.services import ports
from network.services.ports import Holder
from tests.clouds import ALICE, SmallCloud
from tests.network.fakes import give_networks


class Wired(SmallCloud):
    """Nodes that carry networks, and a project with what every project begins with."""

    def __init__(self, home: Path, nodes: int = 2) -> None:
        super().__init__(home, nodes=nodes)
        self.kinds = [give_networks(node) for node in self.nodes]
        with transaction.atomic():
            new_projects.furnish(self.project, ALICE)
        self.hosts = list(Host.objects.order_by("name"))

    @property
    def network(self) -> Network:
        return self.project.networks.get(name="default")

    @property
    def group(self) -> SecurityGroup:
        return self.project.security_groups.get(name="default")

    def plug(self, at: int, name: str = "web", network: Network | None = None, **facts: Any) -> Port:
        """A machine on a host."""
        with transaction.atomic():
            holder = Holder("machine", uuid4(), 0, name)
            port = ports.create(network=network or self.network, actor=ALICE, holder=holder, **facts)
            ports.bind(holder_type="machine", holder_id=holder.id, host=self.hosts[at])
        port.refresh_from_db()
        return port

    def unplug(self, port: Port) -> None:
        with transaction.atomic():
            ports.release(holder_type="machine", holder_id=port.holder_id, actor=ALICE)

    def rename(self, port: Port, name: str) -> None:
        with transaction.atomic():
            ports.rename_holder(holder_type="machine", holder_id=port.holder_id, name=name)

    def change(self, service: Any, **how: Any) -> Any:
        """One service in a transaction of its own."""
        with transaction.atomic():
            return service(actor=ALICE, **how)

    def look(self) -> None:
        for node in self.nodes:
            node.look()
            node.heartbeat()

    def told(self, at: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The networks and routers of a host, by name."""
        self.look()
        found_networks, found_routers = self.kinds[at]
        return (
            {spec["network"]["name"]: spec for spec in found_networks.specs.values()},
            {spec["router"]["name"]: spec for spec in found_routers.specs.values()},
        )
