"""From an image to a file that a project downloads; and to nothing, when its time is over."""

from datetime import timedelta
from functools import cached_property

from django.conf import settings
from django.db.models.functions import Now

from cloud.operations.models import Outcome
from cloud.operations.workflow import DONE, EVERYTHING, Verdict, Workflow
from storage import files, importing
from storage.models import ImageExport
from storage.models.images import GIB
from storage.workflows.on_a_host import OnAHost, came


class ExportWorkflow(Workflow):
    """The export is locked for the whole step."""

    subject_type = importing.EXPORT

    @cached_property
    def export(self) -> ImageExport:
        exports = ImageExport.objects.select_for_update(of=("self",)).select_related("project")
        return exports.get(pk=self.operation.subject_id)

    def end_work(self) -> None:
        """Have hosts clear up. What they have sent goes, unless it is the result."""
        sent = [file["sha256"] for row in self.export.imports.all() for file in row.files]
        importing.end_all(self.export)
        files.let_go(*sent)


class ExportImage(ExportWorkflow, OnAHost):
    """Have a host convert the image's disks; the file is in the store before it can be downloaded."""

    kind = "storage.export"
    because = "waiting for a host that can export images and has room on its disk"

    @property
    def made(self) -> ImageExport:
        return self.export

    def finish(self) -> Verdict:
        row, export = importing.row_of(self.export), self.export
        if row is None:
            return self.place
        [file] = came(row)
        export.files = [{"sha256": file["sha256"], "size": file["size"]}]
        export.size_gib = -(-file["size"] // GIB)
        return self._end(ImageExport.Status.READY)

    def is_reached(self) -> bool:
        return self.export.is_ready

    def give_up(self) -> Verdict:
        return self.clear

    def clear(self) -> Verdict:
        """It stays for a while, to say why there is no file."""
        export, cancelled = self.export, self.operation.outcome == Outcome.CANCELLED
        export.reason = f"It was {self.operation.reason}." if cancelled else self.operation.reason
        export.size_gib = 0
        return self._end(ImageExport.Status.FAILED)

    def _end(self, status: str) -> Verdict:
        export = self.export
        export.status, export.expires_at = status, Now() + timedelta(hours=settings.IMAGE_EXPORT_HOURS)
        export.save()
        self.end_work()
        files.let_go(*(file["sha256"] for file in export.sources))
        return DONE


class DeleteExport(ExportWorkflow):
    """Hosts clear up in their own time; the file leaves the store."""

    kind = "storage.delete_export"
    first = "forget_export"
    patience = timedelta(minutes=10)
    supersedes = EVERYTHING

    def forget_export(self) -> Verdict:
        export = self.export
        names = [file["sha256"] for file in (*export.files, *export.sources)]
        self.end_work()
        export.delete()
        files.let_go(*names)
        return DONE
