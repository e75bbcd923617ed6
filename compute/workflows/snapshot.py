"""All disks of an instance, kept together."""

import contextlib
from uuid import UUID

from django.db import transaction

from cloud.events.services import SYSTEM
from cloud.operations.models import FixBy, Operation
from cloud.operations.workflow import DONE, Refused, Topic, Verdict, Wait
from cloud.problems import Conflict
from compute.workflows.base import LOOK_AGAIN_SECONDS, InstanceWorkflow
from storage.models import Image, Snapshot
from storage.services import images, snapshots


class SnapshotInstance(InstanceWorkflow):
    """Done once what is on each volume is kept. The image of its own disk is made by an operation of its own.

    `parameters`: {"image": id or None, "snapshots": [ids]}.
    """

    kind = "compute.snapshot"
    first = "keep_volumes"

    def keep_volumes(self) -> Verdict:
        """Wait until each snapshot has been taken."""
        asked, there = self._asked, list(self._snapshots())
        if len(there) < len(asked):
            raise Refused("Not all of its volumes could be set aside.", fix_by=FixBy.NOBODY)
        left = [one for one in there if not one.consistency]
        self.progress(len(asked) - len(left), len(asked), "volumes")
        if not left:
            return DONE
        topics = tuple(Topic("volume", one.volume_id) for one in left)
        return Wait(LOOK_AGAIN_SECONDS, because="waiting for its volumes to be set aside", on=topics)

    @property
    def _asked(self) -> list[UUID]:
        return [UUID(ident) for ident in self.operation.parameters["snapshots"]]

    def _snapshots(self) -> "list[Snapshot]":
        return list(Snapshot.objects.filter(pk__in=self._asked).order_by("pk"))

    def give_up(self) -> Verdict:
        return self.drop

    def drop(self) -> Verdict:
        """All or none: what has been kept goes again, as soon as its own operation lets it."""
        busy = []
        for one in self._snapshots():
            live = Operation.objects.filter(subject_type="volume", subject_id=one.volume_id, finished_at=None)
            if live.filter(parameters__snapshot=str(one.pk)).exists():
                busy.append(Topic("volume", one.volume_id))
                continue
            with contextlib.suppress(Conflict), transaction.atomic():  # what is protected by now stays
                snapshots.delete(snapshot=one, actor=SYSTEM)
        if image := Image.objects.filter(pk=self.operation.parameters["image"]).first():
            with contextlib.suppress(Conflict), transaction.atomic():
                images.delete(image=image, actor=SYSTEM)
        if busy:
            return Wait(LOOK_AGAIN_SECONDS, because="waiting for its volumes to be set aside", on=tuple(busy))
        return DONE
