"""From a volume to a backup that its host sends into the store; and from a backup to nothing."""

from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from cloud.events.services import SYSTEM
from cloud.hosts.hosted import BROKEN, raise_generation, refusal
from cloud.operations import engine
from cloud.operations.models import FixBy, Outcome
from cloud.operations.workflow import DONE, EVERYTHING, Refused, Topic, Verdict, Wait, Workflow
from storage import backing_up, importing
from storage.agent.blocks import BLOCK_BYTES
from storage.backing_up import BACKUP
from storage.models import Backup, ImageImport, Layer, Snapshot
from storage.workflows.base import VolumeWorkflow, let_go_of, let_go_soon, until_sealed

LOOK_AGAIN_SECONDS = 20
MAX_TRIES = 3  # on its host: the volume may be attached or detached while it is copied
PATIENCE = timedelta(hours=24)


class CopyVolume(VolumeWorkflow):
    """Nothing else is done with a volume while its host copies what is on it. `parameters`: {"backup": its id}."""

    kind = backing_up.HOLDING
    first = "wait_for_copy"
    patience = PATIENCE + timedelta(hours=1)

    def wait_for_copy(self) -> Verdict:
        backup = UUID(self.operation.parameters["backup"])
        if not Backup.objects.filter(pk=backup, status=Backup.Status.MAKING, copied_at=None).exists():
            return DONE
        because = "its host copies it for a backup"
        return Wait(LOOK_AGAIN_SECONDS, because=because, on=(Topic(BACKUP, backup),))


class BackupWorkflow(Workflow):
    """The backup is locked for the whole step."""

    subject_type = BACKUP

    @cached_property
    def backup(self) -> Backup:
        backups = Backup.objects.select_for_update(of=("self",)).select_related("project", "volume")
        return backups.get(pk=self.operation.subject_id)


class MakeBackup(BackupWorkflow):
    """Its host cuts what is on the volume into blocks, and sends those that the store has not."""

    kind = "storage.back_up"
    first = "send"
    patience = PATIENCE

    def send(self) -> Verdict:
        row = importing.row_of(self.backup)
        if row is None:
            raise Refused("Its host has given it up.", fix_by=FixBy.NOBODY)
        if self.backup.copied_at is None and (wait := self._until_kept()):
            return wait
        if row.is_made:
            return self.finish
        if row.has_been_seen(BROKEN):
            return self.try_again if self._may_try_again(row) else self._refuse(row)
        importing.order(row)
        said = self.operation.reason if self.operation.progress_done is not None else ""
        return Wait(LOOK_AGAIN_SECONDS, because=said or "its host has it", on=(Topic("image", row.pk),))

    def _until_kept(self) -> Wait | None:
        """In Ceph what is backed up is kept as it is. Elsewhere its host copies it, while nothing else is done."""
        backup = self.backup
        if layer := self._layer:
            wait = until_sealed(layer, UUID(backup.of["id"]), backup.of["name"])
            if wait is None:
                backup.copied_at = Now()
                backup.save(update_fields=["copied_at"])
            return wait
        if not backing_up.is_held(backup):
            raise Refused("The volume could not be kept as it was until its host had copied it.")
        return None

    @property
    def _layer(self) -> Layer | None:
        """What it is made of, in Ceph."""
        return Layer.objects.filter(pk=self.backup.of.get("layer")).first()

    def _may_try_again(self, row: ImageImport) -> bool:
        return not row.seen_facts.get("final", False) and self._tries < MAX_TRIES

    @property
    def _tries(self) -> int:
        return int(self.operation.parameters.get("tries", 1))

    def _refuse(self, row: ImageImport) -> Verdict:
        raise refusal(row, otherwise="its host could not make it")

    def try_again(self) -> Verdict:
        """From the beginning, with the volume as it is attached by now. What has been sent need not be sent again."""
        row, backup = importing.row_of(self.backup), self.backup
        if row is None or backup.volume is None:
            raise Refused("The volume is not there any more.", fix_by=FixBy.YOU)
        if "layer" not in backup.of and not backing_up.is_held(backup):
            try:
                engine.start(CopyVolume, backup.volume, actor=SYSTEM, parameters={"backup": str(backup.pk)})
            except engine.Busy as busy:
                return Wait(LOOK_AGAIN_SECONDS, because=busy.detail, on=(Topic("volume", backup.volume.pk),))
        if "layer" not in backup.of:
            backup.copied_at = None
            backup.save(update_fields=["copied_at"])
        self.operation.parameters["tries"] = self._tries + 1
        raise_generation(row)
        return self.send

    def finish(self) -> Verdict:
        """Believe the host only as far as everything that it has named is in the store."""
        row, backup = importing.row_of(self.backup), self.backup
        if row is None:
            return DONE if self.is_reached() else self.send
        facts: dict[str, Any] = row.seen_facts
        run = _uuid(facts.get("run"))
        parts = backup.parts.filter(run=run, number__lt=backup.size_gib).count() if run else 0
        if parts != backup.size_gib or backup.parts.count() != parts:
            raise Refused("Its host says that all is sent, but did not say what is in all of it.")
        if lacking := backing_up.lacking(backup):
            raise Refused(f"Its host says that all is sent, but {lacking} blocks are not in the store.")
        worth = backup.consistency or facts.get("consistency")
        backup.consistency = worth if worth in Snapshot.Consistency.values else Snapshot.Consistency.CRASH
        backup.data_bytes = backing_up.data_blocks(backup) * BLOCK_BYTES
        return self._end(Backup.Status.READY)

    def is_reached(self) -> bool:
        return self.backup.is_complete

    def give_up(self) -> Verdict:
        return self.clear

    def clear(self) -> Verdict:
        """It stays, to say why there is nothing to restore."""
        backup, cancelled = self.backup, self.operation.outcome == Outcome.CANCELLED
        backup.reason = f"It was {self.operation.reason}." if cancelled else self.operation.reason
        backup.parts.all().delete()
        backing_up.prune_soon(backup.project_id)
        return self._end(Backup.Status.FAILED)

    def _end(self, status: str) -> Verdict:
        backup = self.backup
        backup.status, backup.finished_at = status, Now()
        backup.save()
        importing.end_all(backup)
        backing_up.sum_up(backup.project_id)
        return self.let_go

    def let_go(self) -> Verdict:
        """In Ceph what was kept for it goes, unless it is needed otherwise."""
        let_go_of(Backup.objects.filter(pk=self.operation.subject_id).values_list("of__layer", flat=True).first())
        return DONE


class DeleteBackup(BackupWorkflow):
    """Its blocks leave the store unless another backup of the project has them; its host clears up in its own time."""

    kind = "storage.delete_backup"
    first = "forget_backup"
    patience = timedelta(minutes=10)
    supersedes = EVERYTHING

    def forget_backup(self) -> Verdict:
        backup = self.backup
        if backup.layers.exists():
            raise Refused("A volume was made from it, and has not fetched it yet.", fix_by=FixBy.NOBODY)
        importing.end_all(backup)
        backup.delete()
        backing_up.prune_soon(backup.project_id)
        let_go_soon(backup.of.get("layer"))
        return DONE


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None
