"""Another size, by another flavor."""

import contextlib

from django.db import IntegrityError
from django.db.models.functions import Now

from cloud.operations.workflow import DONE, Verdict
from compute import sizes
from compute.models import Power
from compute.sizes import Size
from compute.workflows.base import SpecChange


class ResizeInstance(SpecChange):
    """It is stopped, its host grows its disk, and then it runs again if it ran.

    The rows have the new size from the beginning. Giving up leads back to the size before, unless its host may have
    grown the disk: nothing is cut off again. Until the size is certain, the larger of both is allocated.
    """

    kind = "compute.resize"
    first = "fit"

    def fit(self) -> Verdict:
        if self.instance.disk_gib > self.operation.before["size"]["disk_gib"]:
            self.progress(0, 1, "disk")  # from now on nothing leads back
        if (verdict := self.until_seen(Power.STOPPED)) is not DONE:
            return verdict
        self._fit_room()
        return self.boot if self.operation.before["wanted_power"] == Power.RUNNING else DONE

    def boot(self) -> Verdict:
        instance = self.instance
        if instance.wanted_power != Power.RUNNING:
            instance.wanted_power = Power.RUNNING
            instance.save(update_fields=["wanted_power"])
            instance.raise_generation()
        return self.until_started(Power.RUNNING)

    def may_cancel(self) -> bool:
        return self.operation.progress_of is None

    def undo(self) -> None:
        instance, before = self.instance, self._size_before()
        if before and before != Size.of(instance):
            sizes.become(instance, before)
            sizes.occupy(instance, before, created_at=Now())
        elif not before:
            self._fit_room()
        instance.wanted_power = self.operation.before["wanted_power"]
        instance.save(update_fields=["wanted_power"])

    def _size_before(self) -> Size | None:
        """What it goes back to; None when it stays what it is."""
        grows = self.operation.progress_of is not None
        in_vain = self.instance.wanted_power == Power.STOPPED and self.instance.has_been_seen(Power.BROKEN)
        return None if grows and not in_vain else Size.kept(self.operation.before["size"])

    def _fit_room(self) -> None:
        with contextlib.suppress(IntegrityError):  # a host that shrank below what it holds
            sizes.occupy(self.instance, Size.of(self.instance))
