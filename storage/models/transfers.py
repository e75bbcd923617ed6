"""Transfers: files of volumes and of stopped machines on their way from one host to another."""

import uuid
from pathlib import Path
from typing import Any, ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from cloud.hosts.hosted import Hosted
from cloud.hosts.models import Host
from cloud.tenancy.models import Project
from storage.models.hosted import PRESENT
from storage.store import incoming


class Transfer(models.Model):
    """What one move carries. It goes when both hosts have cleared up.

    `files`: [{"of": type, "id": whose, "name"}], as hosts find them; with a "pool" those that both hosts reach.
    `contents`: what their source says of them, [{"of", "id", "name", "format", "size", "runs": [[first block,
    blocks]]}]. Blocks are numbered through all files: `sent` of them have come here, and the target has made `fetched`
    of those durable.
    """

    class Outcome(models.TextChoices):
        MOVED = "moved"
        GIVEN_UP = "given_up"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    subject_type = models.CharField(max_length=40)  # of the operation that leads it
    subject_id = models.UUIDField()
    subject_name = models.CharField(max_length=63)
    source = models.ForeignKey(Host, on_delete=models.PROTECT, related_name="+")
    target = models.ForeignKey(Host, on_delete=models.PROTECT, related_name="+")
    files = models.JSONField()
    contents = models.JSONField(null=True)
    sent = models.PositiveBigIntegerField(default=0)
    fetched = models.PositiveBigIntegerField(default=0)
    outcome = models.CharField(max_length=8, choices=Outcome.choices, blank=True)  # blank: under way
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(source=F("target")), name="transfer_has_two_hosts"),
            models.CheckConstraint(condition=Q(fetched__lte=F("sent")), name="transfer_fetches_what_was_sent"),
            models.CheckConstraint(
                condition=Q(outcome__in=["", "moved", "given_up"]), name="transfer_outcome_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subject_name} from {self.source} to {self.target}"

    @property
    def copied(self) -> list[dict[str, Any]]:
        """The files that hosts send and receive."""
        return [file for file in self.files if not file.get("pool")]

    @property
    def blocks(self) -> int:
        """How many there are. Its contents are known."""
        return sum(count for file in self.contents or () for _, count in file["runs"])

    @property
    def folder(self) -> Path:
        """Where blocks are that the target has yet to fetch."""
        return incoming() / "transfers" / str(self.pk)

    def names(self) -> set[tuple[Any, ...]]:
        return {(file["of"], file["id"], file["name"]) for file in self.files}


class TransferOnHost(Hosted):
    """One end of a transfer: the host that sends, or the one that receives. Hosts know it by the transfer's id."""

    id_on_hosts: ClassVar[str] = "transfer_id"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    transfer = models.ForeignKey(Transfer, on_delete=models.CASCADE, related_name="ends")
    wanted = models.BooleanField(default=True)  # false: its host is to clear up, and then the row goes

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["transfer", "host"], name="transfer_is_once_on_a_host"),
            models.CheckConstraint(condition=Q(host__isnull=False), name="transfer_on_host_has_a_host"),
        ]

    def __str__(self) -> str:
        return str(self.transfer)

    @property
    def sends(self) -> bool:
        return self.host_id == self.transfer.source_id

    @property
    def is_done(self) -> bool:
        """Whether its host has sent, or received, all of it."""
        return self.has_been_seen(PRESENT)
