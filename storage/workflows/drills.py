"""A restore drill: a host restores a backup to a file that nobody uses, reads it back, and removes it."""

from django.db.models.functions import Now

from cloud.operations.models import Outcome
from cloud.operations.workflow import DONE, Verdict
from storage import importing
from storage.models import Backup
from storage.workflows.backups import BackupWorkflow
from storage.workflows.on_a_host import OnAHost

MAX_WORDS = 5


class DrillBackup(BackupWorkflow, OnAHost):
    """Any host with room does it; it says whether every block came and was read back."""

    kind = "storage.drill_backup"
    because = "waiting for a host that can restore backups and has room on its disk"

    @property
    def made(self) -> Backup:
        return self.backup

    def finish(self) -> Verdict:
        row, backup = importing.row_of(self.backup), self.backup
        if row is None:
            return self.place
        found = row.seen_facts.get("found")
        backup.drill_found = [str(word)[:40] for word in found[:MAX_WORDS]] if isinstance(found, list) else []
        return self._end("")

    def give_up(self) -> Verdict:
        return self.clear

    def clear(self) -> Verdict:
        """It failed when the backup is at fault; what hosts cannot do says nothing of the backup."""
        row = importing.row_of(self.backup)
        is_proof = row is not None and row.seen_facts.get("final", False) and self.operation.outcome == Outcome.FAILED
        if is_proof:
            return self._end(self.operation.reason)
        importing.end_all(self.backup)
        return DONE

    def _end(self, problem: str) -> Verdict:
        backup = self.backup
        backup.drilled_at, backup.drill_problem = Now(), problem
        backup.save(update_fields=["drilled_at", "drill_problem", "drill_found"])
        importing.end_all(backup)
        return DONE
