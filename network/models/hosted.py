"""Networks and routers as they are on one host each: what hosts are ordered to make true, and what they report."""

import uuid

from django.db import models
from django.db.models import Q

from cloud.hosts.hosted import Hosted
from network.models.networks import Network
from network.models.routers import Router

PRESENT = "present"  # what is seen of one that is there


class OnHost(Hosted):
    """One of a project on one host. `wanted` false: its host is to remove it, and then the row goes."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    wanted = models.BooleanField(default=True)

    class Meta:
        abstract = True

    @property
    def is_true(self) -> bool:
        """Whether its host has made true what is wanted by now."""
        return self.wanted and self.has_been_seen(PRESENT)


class NetworkOnHost(OnHost):
    """A network on a host where one of its ports is, or that a router there leads to.

    `vtep`: where tunnels to the host end, as the network's hosts are told; "" when it can have none.
    """

    network = models.ForeignKey(Network, on_delete=models.PROTECT, related_name="on_hosts")
    vtep = models.CharField(max_length=45, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["network", "host"], name="network_is_once_on_a_host"),
            models.CheckConstraint(condition=Q(host__isnull=False), name="network_on_host_has_a_host"),
        ]

    def __str__(self) -> str:
        return self.network.name

    @property
    def project_id(self) -> uuid.UUID:
        return self.network.project_id


class RouterOnHost(OnHost):
    """A router on a host where one of its networks is."""

    router = models.ForeignKey(Router, on_delete=models.PROTECT, related_name="on_hosts")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["router", "host"], name="router_is_once_on_a_host"),
            models.CheckConstraint(condition=Q(host__isnull=False), name="router_on_host_has_a_host"),
        ]

    def __str__(self) -> str:
        return self.router.name

    @property
    def project_id(self) -> uuid.UUID:
        return self.router.project_id
