"""Images: what instances can be launched from, what each is made of, and bringing in more."""

from dataclasses import replace
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse

from cloud.api.addresses import absolute
from cloud.operations.live import last_fix_by, live_operation
from cloud.operations.models import Operation
from cloud.pages import forms, sections
from cloud.pages.base import FormPage
from cloud.pages.bulk import ForMany
from cloud.pages.deleting import DiscardPage
from cloud.pages.generic import ChangePage, ItemFormPage, ItemPage, ListPage, ResourcePage, VerbPage
from cloud.pages.lists import By
from cloud.problems import Problem
from cloud.tenancy.models import Project
from storage.api.image_fields import FORMATS, ImageChanges, ImageForm
from storage.api.images import PublishForm, ShareForm
from storage.models import Image
from storage.services import exports, images, images_of, trash

PROPERTIES = {
    **dict.fromkeys(("os", "architecture", "default_user"), forms.REQUIRED),
    **dict.fromkeys(("min_disk_gib", "min_memory_mib"), forms.WHOLE),
    **dict.fromkeys(("description", "firmware", "machine_type", "disk_bus", "nic_bus"), forms.REQUIRED),
    "cloud_init": forms.FLAG,
    "labels": forms.LABELS,
}
CHOICES: dict[str, Any] = {
    "architectures": Image.Architecture.choices,
    "firmwares": [("", "as usual"), ("bios", "BIOS"), ("uefi", "UEFI")],
    "machine_types": [("", "as usual"), ("q35", "Q35"), ("pc", "i440FX, for old guests"), ("virt", "virt")],
    "disk_buses": [("", "as usual"), ("virtio", "virtio"), ("scsi", "virtio SCSI"), ("sata", "SATA"), ("ide", "IDE")],
    "nic_buses": [("", "as usual"), *((name, name) for name in Image.NicBus.values)],
}


class ImagePage(ResourcePage):
    """The project's own images, public ones and shared ones, each with what of the project was made from it."""

    model, key, title = Image, "image", "Images"
    listed_at = section = "images"
    help = "images#what-a-guest-needs"

    def rows(self) -> "QuerySet[Image]":
        found = images_of(self.project).select_related("upload", "project")
        return found.annotate(**sections.counts("image", project=self.project))

    def after(self) -> str:
        return self.route("image", self.kwargs["image"])


class OwnImagePage(ImagePage):
    """Of the project's own; for admins of the cloud of every one that they see."""

    def rows(self) -> "QuerySet[Image]":
        found = super().rows()
        return found if self.scope.is_cloud_admin else found.filter(project=self.project)


class Images(ImagePage, ListPage):
    template = "storage/images/list.html"
    help = "images#by-the-dashboard"
    sorts = {
        "name": ("name", "created_at"),
        "status": "status",
        "system": ("os", "version"),
        "needs": ("min_memory_mib", "min_disk_gib"),
        "age": "-created_at",
        "instances": "-instance_count",
    }
    searched = ("name", "description")
    filters = (By("system", "os"), By("architecture", "architecture"), By("visibility", "visibility"))
    statuses = tuple(Image.Status.values)
    troubled = (Image.Status.FAILED,)

    def adorn(self, found: "QuerySet[Image]") -> "QuerySet[Image]":
        return found.annotate(live_operation=live_operation("image"))

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeleteImage),)


class ImportImage(ResourcePage, FormPage):
    """Bring one in: from a file or from a URL."""

    model, key, title = Image, "image", "Images"
    listed_at = section = "images"
    help = "images#by-the-dashboard"
    template = "storage/images/import.html"

    def fill(self) -> dict[str, Any]:
        formats = [("", "find out"), *((name, name) for name in FORMATS)]
        architectures = [("", "x86_64, or what an OVA says"), *Image.Architecture.choices]
        return {**CHOICES, "architectures": architectures, "formats": formats, "the_list": self.the_list}

    def initial(self) -> dict[str, Any]:
        return {"kind": "upload"}

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        source = {"kind": post.get("kind", "upload"), **forms.texts(post, "sha256", "format")}
        if source["kind"] == "url":
            source |= forms.required(post, "url")
        given = {**forms.required(post, "name"), **forms.texts(post, "version", "os", "architecture", "firmware")}
        given |= forms.texts(post, "disk_bus", "nic_bus", "default_user")
        return {**given, **({"cloud_init": True} if "cloud_init" in post else {}), "source": source}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        def work() -> Image:
            return images.begin(project=self.project, actor=self.scope.actor, **self.validate(ImageForm, body))

        return self.mutate(work, body=body, to=lambda made: self.route("image", made.pk), done=begun)

    def show_fault(self, problem: Problem) -> HttpResponse:
        """What the body has inside of `source` is a field like all others here."""
        problem.errors = [replace(fault, pointer=fault.pointer.removeprefix("/source")) for fault in problem.errors]
        return super().show_fault(problem)


def begun(image: Image) -> str:
    return f"{image} waits for its file." if image.status == Image.Status.WAITING else f"{image} is being fetched."


class OneImage(ImagePage, ItemPage):
    template = "storage/images/image.html"
    partials = {"image-state": "storage/images/_state.html"}

    def rows(self) -> "QuerySet[Image]":
        return super().rows().annotate(fix_by=last_fix_by("image"))

    def fill(self) -> dict[str, Any]:
        body = {"name": f"from-{self.item.name}"[:63], "flavor": "small", "image": str(self.item.pk)}
        live = Operation.objects.filter(subject_type="image", subject_id=self.item.pk, finished_at=None).first()
        upload = getattr(self.item, "upload", None)
        is_own = self.item.project_id == self.project.pk
        where = f"/api/v1/projects/{self.project.name}/images/{self.item.pk}"
        return {
            **super().fill(),
            "live": live,
            "upload": upload if upload and upload.completed_at is None else None,
            "tus_url": f"{where}/upload/file",
            "file_url": absolute(f"{where}/file"),
            "is_own": is_own,
            "may_export": not exports.why_not(self.item),
            "may_manage": is_own or self.scope.is_cloud_admin,
            "shares": self.item.shares.select_related("project") if is_own else [],
            "curl": forms.as_curl("POST", f"projects/{self.project.name}/instances", body),
        }


class ChangeImage(OwnImagePage, ChangePage):
    """What is said of it, and of the machine that boots it."""

    template, form = "storage/images/change.html", ImageChanges
    fields = {"name": forms.REQUIRED, "protected": forms.FLAG, **PROPERTIES}

    def fill(self) -> dict[str, Any]:
        return {**super().fill(), **CHOICES}

    def change(self, changes: dict[str, Any]) -> Image:
        return images.update(image=self.item, actor=self.scope.actor, changes=changes)


class DeprecateImage(OwnImagePage, VerbPage):
    """Deprecate it: its name then means another version. Or undo that."""

    def act(self) -> Image:
        at = None if self.item.deprecated_at else images.now()
        return images.update(image=self.item, actor=self.scope.actor, changes={"deprecated_at": at})

    def done(self, result: Image) -> str:
        return f"{result} is {'deprecated' if result.deprecated_at else 'offered again'}."


class DeleteImage(OwnImagePage, DiscardPage):
    help = "images#deleting"
    kind = "image"

    def after(self) -> str:
        return self.the_list

    def delete(self) -> None:
        trash.discard_image(image=self.item, actor=self.scope.actor)


class ShareImage(OwnImagePage, ItemFormPage):
    """With one more project."""

    template = "storage/images/share.html"
    help = "images#sharing"

    def fill(self) -> dict[str, Any]:
        shares = self.item.shares.select_related("project").order_by("project__name")
        return {**super().fill(), "shares": shares, "title": self.title, "the_list": self.the_list}

    def read(self) -> dict[str, Any]:
        return forms.required(self.request.POST, "project")

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        def work() -> Project:
            to: Project = self.validate(ShareForm, body)["project"]
            images.share(image=self.item, actor=self.scope.actor, project=to)
            return to

        there = self.request.path
        return self.mutate(work, body=body, to=there, done=lambda to: f"{self.item} is shared with {to}.")


class UnshareImage(OwnImagePage, VerbPage):
    def after(self) -> str:
        return self.route("share-image", self.kwargs["image"])

    def act(self) -> Project:
        to: Project = self.validate(ShareForm, forms.required(self.request.POST, "project"))["project"]
        images.unshare(image=self.item, actor=self.scope.actor, project=to)
        return to

    def done(self, result: Project) -> str:
        return f"{self.item} is not shared with {result} any more."


class PublishImage(OwnImagePage, VerbPage):
    """For admins of the cloud."""

    def act(self) -> Image:
        self.scope.require_cloud_admin()
        wish = self.validate(PublishForm, {"public": self.request.POST.get("public") == "on"})
        return images.publish(image=self.item, actor=self.scope.actor, **wish)

    def done(self, result: Image) -> str:
        return f"{result} is {result.visibility} now."
