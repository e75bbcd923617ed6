"""Exports: images as files that other programs open. They are begun on the page of an image."""

from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponse

from cloud.operations.live import last_fix_by, live_operation
from cloud.pages import forms
from cloud.pages.bulk import ForMany
from cloud.pages.deleting import DeletePage
from cloud.pages.generic import ItemFormPage, ListPage, ResourcePage
from cloud.pages.lists import By
from storage.api.exports import ExportForm
from storage.importing import EXPORT
from storage.models import ImageExport
from storage.pages.images import ImagePage
from storage.services import exports

# What people call a format: by the program that opens it.
FORMATS = {
    "ova": "VMware or VirtualBox, as a whole machine (OVA)",
    "vmdk": "VMware, the disk alone (VMDK)",
    "vdi": "VirtualBox, the disk alone (VDI)",
    "vhdx": "Hyper-V (VHDX)",
    "qcow2": "QEMU, Proxmox or another cloud (qcow2)",
    "raw": "a real disk, or any other program (raw, as large as the disk)",
}


class ExportPage(ResourcePage):
    model, key, title = ImageExport, "export", "Exports"
    listed_at, section = "exports", "images"
    help = "images#taking-one-away"

    def rows(self) -> "QuerySet[ImageExport]":
        return ImageExport.objects.filter(project=self.project).select_related("project")


class Exports(ExportPage, ListPage):
    template = "storage/exports/list.html"
    sorts = {"age": "-created_at", "name": "name", "image": "image__name", "status": "status", "ends": "expires_at"}
    sort = "age"
    filters = (By("image", "image__name"),)
    live = "image_export operation"

    def adorn(self, found: "QuerySet[ImageExport]") -> "QuerySet[ImageExport]":
        return found.annotate(live_operation=live_operation(EXPORT), fix_by=last_fix_by(EXPORT))

    def around(self) -> dict[str, Any]:
        return {**super().around(), "hours": settings.IMAGE_EXPORT_HOURS}

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeleteExport),)


class ExportImage(ImagePage, ItemFormPage):
    """Choose for which program."""

    template = "storage/exports/export.html"
    help = "images#taking-one-away"

    def fill(self) -> dict[str, Any]:
        choices = [(value, words) for value, words in FORMATS.items() if not exports.why_not(self.item, value)]
        frame = {"title": self.title, "the_list": self.the_list, "hours": settings.IMAGE_EXPORT_HOURS}
        return {**super().fill(), **frame, "formats": choices, "why_not": exports.why_not(self.item)}

    def initial(self) -> dict[str, Any]:
        return {"format": "ova"}

    def read(self) -> dict[str, Any]:
        return forms.required(self.request.POST, "format")

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        def work() -> ImageExport:
            wish = self.validate(ExportForm, body)
            return exports.begin(image=self.item, project=self.project, actor=self.scope.actor, **wish)

        to = self.route("exports")
        return self.mutate(work, body=body, to=to, done=lambda export: f"{export} is being made.")


class DeleteExport(ExportPage, DeletePage):
    kind = EXPORT

    def delete(self) -> None:
        exports.delete(export=self.item, actor=self.scope.actor)
