"""Volumes as they are on a host: what hosts are ordered to make true, and what they report."""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import Q

from cloud.hosts.hosted import Hosted
from storage.models.volumes import Volume

PRESENT = "present"  # what is seen of one that is there


class VolumeOnHost(Hosted):
    """A volume on the host where its layers are, and while it moves also on the other one. Hosts know it by the
    volume's id.
    """

    id_on_hosts: ClassVar[str] = "volume_id"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    volume = models.ForeignKey(Volume, on_delete=models.PROTECT, related_name="on_hosts")
    wanted = models.BooleanField(default=True)  # false: it has left this host, and the row goes with its files

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["volume", "host"], name="volume_is_once_on_a_host"),
            models.CheckConstraint(condition=Q(host__isnull=False), name="volume_on_host_has_a_host"),
        ]

    def __str__(self) -> str:
        return self.volume.name

    @property
    def is_true(self) -> bool:
        """Whether its host has made true what is wanted by now."""
        return self.has_been_seen(PRESENT)
