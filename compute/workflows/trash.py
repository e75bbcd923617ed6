"""Into the trash, and out of it."""

import contextlib
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from cloud import trash
from cloud.hosts.models import Allocation
from cloud.hosts.room import offer_room
from cloud.operations.workflow import DONE, EVERYTHING, Verdict
from compute import moves, unplugging, volumes
from compute.models import Power
from compute.workflows.base import PowerChange
from compute.workflows.power import StartInstance


class DiscardInstance(PowerChange):
    """From anything to the trash: stopped, in no network, with nothing of its host but disk."""

    kind = "compute.discard"
    first = "halt"
    reaches = Power.STOPPED
    patience = timedelta(days=3650)
    persists = True
    supersedes = EVERYTHING  # type: ignore[assignment]

    def halt(self) -> Verdict:
        moves.abandon(self.instance)
        # What cannot be stopped keeps its processors and memory: there may still be a process.
        if self.instance.host is None or self.instance.has_been_seen(Power.BROKEN):
            return self.let_go
        self.progress(0, 1, "machine")
        verdict = self.until_seen(self.reaches)
        return self.let_go if verdict is DONE else verdict

    def let_go(self) -> Verdict:
        """Give back everything but the disk, and keep what is needed to be plugged in again."""
        instance = self.instance
        if instance.has_been_seen(Power.STOPPED):
            with contextlib.suppress(IntegrityError), transaction.atomic():  # a host that shrank below what it holds
                Allocation.of("instance", instance.pk).update(vcpus=0, memory_mib=0)
            offer_room()
        unplugging.unplug(instance)
        volumes.release_kept(instance)
        return DONE

    def may_cancel(self) -> bool:
        return self.operation.progress_of is None  # set with the first order

    def take_back(self) -> Verdict:
        """It never was in the trash, but for its name: that may be another one's by now."""
        instance = self.instance
        instance.trashed_at, instance.name = None, trash.free_name(instance) or instance.name
        instance.save(update_fields=["trashed_at", "name"])
        Allocation.of("instance", instance.pk).update(created_at=Now())  # from when it costs something again
        return super().take_back()


class RestoreInstance(StartInstance):
    """From the trash to what it was: running, or stopped."""

    kind = "compute.restore"
    supersedes = StartInstance.supersedes | {DiscardInstance.kind}

    def boot(self) -> Verdict:
        return self.until_started(Power(self.instance.wanted_power))

    def is_reached(self) -> bool:
        return self.instance.has_been_seen(self.instance.wanted_power)
