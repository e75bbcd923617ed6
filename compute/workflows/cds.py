"""Another CD, or none: done once its host has changed it. What is stopped gets the change at its next start."""

from datetime import timedelta

from cloud.operations.workflow import Verdict
from compute.workflows.devices import DeviceChange
from storage.models import Image


class CdChange(DeviceChange):
    """`parameters`: {"cd": the id of the ISO that was in the drive, or null, "cd_drive": whether there was a drive}."""

    def undo(self) -> None:
        instance, kept = self.instance, self.operation.parameters
        # An ISO that has been ejected may be deleted meanwhile.
        there = Image.objects.filter(pk=kept["cd"], status=Image.Status.READY, trashed_at=None)
        instance.cd = there.first() if kept["cd"] else None
        instance.cd_drive = kept["cd_drive"]
        instance.save(update_fields=["cd", "cd_drive"])


class InsertCd(CdChange):
    """Its host fetches the ISO first, which may be large."""

    kind = "compute.insert-cd"
    first = "insert"
    patience = timedelta(minutes=30)

    def insert(self) -> Verdict:
        files = self.instance.cd.files if self.instance.cd else []
        wanted = {file["sha256"] for file in files}
        return self.until_plugged(lambda facts: facts.get("cd") in wanted)


class EjectCd(CdChange):
    """The guest is asked first; it loses a CD that it does not let go of."""

    kind = "compute.eject-cd"
    first = "eject"

    def eject(self) -> Verdict:
        return self.until_plugged(lambda facts: facts.get("cd") is None)
