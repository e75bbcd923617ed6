"""From what somebody sent to an image that launches; and from an image to nothing."""

from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from cloud.hosts.hosted import BROKEN
from cloud.hosts.room import ROOM
from cloud.operations.models import Outcome
from cloud.operations.workflow import DONE, EVERYTHING, Refused, Topic, Verdict, Wait, Workflow
from cloud.uses import InUse
from storage import files, importing, uploads, uses
from storage.models import Image, ImageImport, Upload
from storage.models.images import GIB

LOOK_AGAIN_SECONDS = 20
MAX_TRIES = 3  # on hosts, where it is the host that fails


class ImageWorkflow(Workflow):
    """The image is locked for the whole step."""

    subject_type = "image"

    @cached_property
    def image(self) -> Image:
        images = Image.objects.select_for_update(of=("self",)).select_related("upload", "project")
        return images.get(pk=self.operation.subject_id)

    def end_work(self) -> None:
        """Have hosts clear up, and let go of what was sent."""
        for row in self.image.imports.filter(wanted=True).select_for_update(of=("self",)).select_related("host"):
            importing.end(row)
        uploads.drop(Upload.objects.filter(image=self.image))


class ImportImage(ImageWorkflow):
    """Have a host look at what came and convert it; the result is in the store before it is ready."""

    kind = "storage.import"
    first = "place"
    patience = timedelta(hours=12)

    def place(self) -> Verdict:
        """Choose a host that can, and has room."""
        if not importing.row_of(self.image) and importing.choose(self.image, without=self._tried) is None:
            because = "waiting for a host that can convert images and has room on its disk"
            return Wait(LOOK_AGAIN_SECONDS, because=because, on=(ROOM,))
        return self.convert

    def convert(self) -> Verdict:
        """Wait until its result is in the store."""
        row = importing.row_of(self.image)
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
        return len(self._tried) < MAX_TRIES - 1

    def _refuse(self, row: ImageImport) -> Verdict:
        raise Refused(row.seen_problem or "the host could not make it")

    def try_elsewhere(self) -> Verdict:
        """It is the host that failed, or fell silent: have another one try."""
        row = importing.row_of(self.image)
        if row is not None:
            self.operation.parameters["tried"] = [str(host) for host in (*self._tried, row.host_id)]
            importing.end(row)
        return self.place

    def finish(self) -> Verdict:
        """Take over what was found, and what came of it."""
        row, image = importing.row_of(self.image), self.image
        if row is None:
            return self.place
        image.files = came(row)
        image.found = row.seen_facts.get("found", {})
        image.size_gib = -(-image.size // GIB)
        image.status, image.reason = Image.Status.READY, ""
        for field, value in learnt(image).items():
            setattr(image, field, value)
        image.save()
        self.end_work()
        return DONE

    def is_reached(self) -> bool:
        return self.image.is_ready

    def give_up(self) -> Verdict:
        return self.clear

    def clear(self) -> Verdict:
        """It will not become an image: what is found stays, to say why."""
        image = self.image
        if row := importing.row_of(image):
            image.found = row.seen_facts.get("found", {})
        cancelled = self.operation.outcome == Outcome.CANCELLED
        image.status, image.reason, image.size_gib = Image.Status.FAILED, self.operation.reason, 0
        if cancelled:
            image.reason = f"Its import was {self.operation.reason}."
        image.save(update_fields=["status", "reason", "found", "size_gib"])
        files.let_go(*(file["sha256"] for row in image.imports.all() for file in row.files))
        self.end_work()
        return DONE


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
        raise Refused("There is no disk in it.")
    return made


def learnt(image: Image) -> dict[str, Any]:
    """What follows for the image from what was found in it. What its owner has said stays."""
    first: dict[str, Any] = next((file for file in image.files if file["role"] in ("disk", "cdrom")), {})
    disk = -(-int(first.get("virtual_bytes") or 0) // GIB)
    facts: dict[str, Any] = {"min_disk_gib": max(image.min_disk_gib, disk)}
    machine = image.found.get("machine") or {}
    if not image.firmware and machine.get("firmware") in Image.Firmware.values:
        facts["firmware"] = machine["firmware"]
    return facts


class DeleteImage(ImageWorkflow):
    """Hosts clear up in their own time; files that nobody else needs leave the store."""

    kind = "storage.delete_image"
    first = "forget"
    patience = timedelta(minutes=10)
    supersedes = EVERYTHING

    def forget(self) -> Verdict:
        image = self.image
        try:
            uses.refuse_deletion(image)
        except InUse as used:
            raise Refused(used.detail) from None
        names = [file["sha256"] for file in image.files]
        names += [file["sha256"] for row in image.imports.all() for file in row.files]
        self.end_work()
        image.delete()
        files.let_go(*names)
        return DONE

    def give_up(self) -> Verdict:
        return self.keep

    def keep(self) -> Verdict:
        """Something began to use it in the last moment, or it was called back: it is what it was."""
        image = self.image
        if image.files:
            image.status = Image.Status.READY
        else:
            image.status, image.reason = Image.Status.FAILED, "It was being deleted while it was made."
        image.save(update_fields=["status", "reason"])
        return DONE
