"""From what somebody sent to an image that launches; and from an image to nothing."""

from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from cloud.operations.models import FixBy, Outcome
from cloud.operations.workflow import DONE, EVERYTHING, Refused, Verdict, Workflow
from cloud.uses import InUse
from storage import files, hardware, importing, traits, uploads, uses
from storage.models import Image, Layer, Upload
from storage.models.images import GIB
from storage.workflows.base import let_go_of, let_go_soon, until_sealed
from storage.workflows.on_a_host import OnAHost, came


class ImageWorkflow(Workflow):
    """The image is locked for the whole step."""

    subject_type = "image"

    @cached_property
    def image(self) -> Image:
        images = Image.objects.select_for_update(of=("self",)).select_related("upload", "project")
        return images.get(pk=self.operation.subject_id)

    def end_work(self) -> None:
        """Have hosts clear up, and let go of what was sent."""
        importing.end_all(self.image)
        uploads.drop(Upload.objects.filter(image=self.image))


class ImportImage(ImageWorkflow, OnAHost):
    """Have a host look at what came and convert it; the result is in the store before it is ready."""

    kind = "storage.import"

    @property
    def made(self) -> Image:
        return self.image

    def place(self) -> Verdict:
        """What is on a volume is left alone by whoever writes it, before its host makes an image of it."""
        source = self.image.source
        layer = Layer.objects.filter(pk=source.get("layer")).first()
        return (layer and until_sealed(layer, UUID(source["id"]), source["name"])) or super().place()

    def finish(self) -> Verdict:
        """Take over what was found, and what came of it."""
        row, image = importing.row_of(self.image), self.image
        if row is None:
            return self.place
        made = came(row)
        replaced = {file["role"] for file in made}
        kept = [file for file in image.source.get("boot_files", ()) if file["role"] not in replaced]
        image.files = [*kept, *made]
        image.found = row.seen_facts.get("found", {})
        image.size_gib = -(-image.size // GIB)
        image.status, image.reason = Image.Status.READY, ""
        for field, value in learnt(image).items():
            setattr(image, field, value)
        image.save()
        self.end_work()
        return self.let_go

    def let_go(self) -> Verdict:
        """In Ceph what was kept of a volume for it goes, unless it is needed otherwise."""
        let_go_of(Image.objects.filter(pk=self.operation.subject_id).values_list("source__layer", flat=True).first())
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
        return self.let_go


def learnt(image: Image) -> dict[str, Any]:
    """What follows for the image from what was found in it. What its owner has said stays."""
    first: dict[str, Any] = next(iter(image.disks), {})
    disk = -(-int(first.get("virtual_bytes") or 0) // GIB)
    facts: dict[str, Any] = {"min_disk_gib": max(image.min_disk_gib, disk)}
    told = traits.known(image.found.get("machine") or {})
    found = {name: value for name, value in told.items() if not _is_said(image, name)}
    said = {name: value for name, value in image.hardware.items() if value}
    if hardware.faults(found.get("architecture", image.architecture), said):
        found.pop("architecture", None)
    # What the machine had that we have not, or that does not go with what was said, is left out.
    wrong = hardware.faults(found.get("architecture", image.architecture), {**found, **said})
    return facts | {name: value for name, value in found.items() if name not in wrong}


def _is_said(image: Image, name: str) -> bool:
    """Whether its owner has said this of it: when it was begun, or by giving it another value than every image has."""
    usual = getattr(Image(architecture=Image.Architecture.X86_64), name)
    return name in image.source.get("said", ()) or getattr(image, name) != usual


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
            raise Refused(used.detail, fix_by=FixBy.YOU) from None
        names = [file["sha256"] for file in image.files]
        names += [file["sha256"] for row in image.imports.all() for file in row.files]
        self.end_work()
        image.delete()
        files.let_go(*names)
        let_go_soon(image.source.get("layer"))
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
