"""Work on an image that one host does, and another one when that fails: choosing it, and waiting for its result."""

from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from cloud.hosts.hosted import BROKEN, refusal
from cloud.hosts.room import ROOM
from cloud.operations.models import FixBy
from cloud.operations.workflow import Refused, Topic, Verdict, Wait, Workflow
from storage import importing
from storage.models import Backup, Image, ImageExport, ImageImport

LOOK_AGAIN_SECONDS = 20
MAX_TRIES = 3  # on hosts, where it is the host that fails


class OnAHost(Workflow):
    """The steps up to `finish`, which takes the result over."""

    first = "place"
    patience = timedelta(hours=12)
    because: ClassVar[str] = "waiting for a host that can convert images and has room on its disk"

    @property
    def made(self) -> Image | ImageExport | Backup:
        """What is being made, locked."""
        raise NotImplementedError

    def finish(self) -> Verdict:
        raise NotImplementedError

    def place(self) -> Verdict:
        """Choose a host that can, and has room. What is made of a host's own disk has its host from the beginning."""
        if importing.is_captured(self.made) and not importing.row_of(self.made):
            raise Refused("Its host has given it up.", fix_by=FixBy.NOBODY)
        if not importing.row_of(self.made) and importing.choose(self.made, without=self._tried) is None:
            return Wait(LOOK_AGAIN_SECONDS, because=self.because, on=(ROOM,))
        return self.convert

    def convert(self) -> Verdict:
        """Wait until its result is in the store."""
        row = importing.row_of(self.made)
        if row is None:
            return self.place
        if row.is_made:
            return self.finish
        if row.has_been_seen(BROKEN):
            return self.try_elsewhere if self._may_try_again(row) else self._refuse(row)
        if importing.is_lost(row) and self._has_tries_left:
            return self.try_elsewhere
        importing.order(row)
        said = self.operation.reason if self.operation.progress_done is not None else ""
        return Wait(LOOK_AGAIN_SECONDS, because=said or "a host has it", on=(Topic("image", row.pk),))

    @property
    def _tried(self) -> list[UUID]:
        """Hosts that have failed."""
        return [UUID(host) for host in self.operation.parameters.get("tried", [])]

    def _may_try_again(self, row: ImageImport) -> bool:
        return not row.seen_facts.get("final", False) and self._has_tries_left

    @property
    def _has_tries_left(self) -> bool:
        return len(self._tried) < MAX_TRIES - 1 and not importing.is_captured(self.made)

    def _refuse(self, row: ImageImport) -> Verdict:
        raise refusal(row, otherwise="the host could not make it")

    def try_elsewhere(self) -> Verdict:
        """It is the host that failed, or fell silent: have another one try."""
        row = importing.row_of(self.made)
        if row is not None:
            self.operation.parameters["tried"] = [str(host) for host in (*self._tried, row.host_id)]
            importing.end(row)
        return self.place


def came(row: ImageImport) -> list[dict[str, Any]]:
    """The files of the result as its host describes them, as far as the store has them. Raises Refused."""
    sums = {file["index"]: (file["sha256"], file["size"]) for file in row.files}
    made = []
    for told in row.seen_facts.get("files", []):
        index = told.get("index")
        if sums.get(index) != (told.get("sha256"), told.get("size")):
            raise Refused("The host says that it is ready, but not all of it is in the store.")
        known = ("role", "index", "sha256", "size", "format", "virtual_bytes")
        made.append({key: told[key] for key in known if key in told})
    if not made:
        raise Refused("There is no disk in it.", fix_by=FixBy.YOU)
    return made
