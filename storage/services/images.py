"""Images from anywhere: begun, sent, changed, shared, deleted."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone

from cloud.changes import change
from cloud.events.services import Actor, record
from cloud.operations import engine
from cloud.problems import Conflict, Fault, Invalid, TooLarge
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from storage import hardware, traits, uploads, uses
from storage.models import Image, ImageExport, ImageShare, Upload
from storage.models.images import GIB
from storage.workflows.images import DeleteImage, ImportImage

HYPERVISORS = ["qemu"]  # what runs a disk that brings its own boot loader
MAX_SHARES = 100


class WrongState(Conflict):
    """It makes no sense as the image is now."""

    title: ClassVar[str] = "Not possible in this state"


class Protected(Conflict):
    """Somebody has switched on its protection from being deleted."""

    title: ClassVar[str] = "This is protected from being deleted"


def begin(
    *, project: Project | None, actor: Actor, name: str, source: Mapping[str, Any], version: str = "", **properties: Any
) -> Image:
    """An image that is to come from a source: {"kind": "upload", "size", "sha256", "format"} waits for its content,
    {"kind": "url", "url", "sha256", "format"} is fetched by a host. Raises Invalid, OverQuota, TooLarge.
    """
    _require_possible(Image(**{"architecture": Image.Architecture.X86_64, **properties}), {})
    size = source.get("size")
    if size is not None:
        require_possible_size(size)
    gib = 1 if size is None else max(1, -(-size // GIB))
    if project is not None:
        quota.require(project, images=1, image_gib=gib)
    is_upload = source["kind"] == "upload"
    image = Image.objects.create(
        project=project,
        name=name,
        version=version,
        visibility=Image.Visibility.PRIVATE if project else Image.Visibility.PUBLIC,
        status=Image.Status.WAITING if is_upload else Image.Status.IMPORTING,
        source={key: value for key, value in source.items() if key not in ("size", "project")} | _said(properties),
        size_gib=gib,
        **{"hypervisors": HYPERVISORS, "architecture": Image.Architecture.X86_64, **properties},
    )
    record("storage.image.create", image, actor=actor, after={"name": name, "version": version, "source": image.source})
    if is_upload:
        uploads.begin(image, size=size, sha256=source.get("sha256") or "")
    else:
        engine.start(ImportImage, image, actor=actor)
    return image


def _said(properties: Mapping[str, Any]) -> dict[str, Any]:
    """What was said of an image and may be what every image has, for an import that learns the rest from what it finds.
    Hardware that is not said is empty, which tells it by itself."""
    said = [name for name in traits.NAMES if name in properties and name not in traits.HARDWARE]
    return {"said": said} if said else {}


def complete(*, image: Image, actor: Actor, received: int) -> Image:
    """All of its content is here, so many bytes: have a host make the image. Raises WrongState, Invalid, OverQuota."""
    upload = lock_upload(image)
    if upload.size is not None and received != upload.size:
        raise Invalid(f"{received} bytes came, and {upload.size} were announced.")
    if not received:
        raise Invalid("The file is empty.")
    gib = -(-received // GIB)
    if image.project_id is not None:
        quota.require(image.project_id, image_gib=gib - image.size_gib)
    image = Image.objects.select_for_update().get(pk=image.pk)
    Upload.objects.filter(pk=upload.pk).update(size=received, completed_at=Now())
    image.status, image.size_gib = Image.Status.IMPORTING, gib
    image.save(update_fields=["status", "size_gib"])
    record("storage.image.import", image, actor=actor, after={"bytes": received})
    engine.start(ImportImage, image, actor=actor)
    return image


def expire(*, image: Image, actor: Actor) -> None:
    """Nobody has sent its content in time: give it up."""
    image = Image.objects.select_for_update().get(pk=image.pk)
    if image.status != Image.Status.WAITING:
        return
    image.status, image.size_gib = Image.Status.FAILED, 0
    image.reason = f"Its content was not sent within {uploads.DAYS_UNFINISHED} days."
    image.save(update_fields=["status", "size_gib", "reason"])
    uploads.drop(Upload.objects.filter(image=image))
    record("storage.image.expire", image, actor=actor, after={"reason": image.reason})


def lock_upload(image: Image) -> Upload:
    """What is being sent for an image. Raises WrongState when it waits for nothing."""
    upload = Upload.objects.select_for_update(of=("self",)).filter(image=image, completed_at=None).first()
    if upload is None:
        raise not_waiting(image)
    return upload


def require_possible_size(size: int) -> None:
    """Bytes of a file that is to come. Raises TooLarge."""
    if size > settings.IMAGE_MAX_GIB * GIB:
        raise TooLarge(f"An image may have {settings.IMAGE_MAX_GIB} GiB at most.")


def require_waiting(image: Image) -> None:
    """Raises WrongState when its content is all here, or is not wanted any more."""
    if not Upload.objects.filter(image=image, completed_at=None).exists():
        raise not_waiting(image)


def not_waiting(image: Image) -> WrongState:
    return WrongState(f"{image} does not wait for content. Make another image to send another file.")


def quota_left(made: Image | ImageExport) -> int | None:
    """GiB that an image, or an export, may have in its project's quota; None: there is no limit."""
    if made.project_id is None:
        return None
    use = quota.usage(made.project_id).get("image_gib")
    return None if use is None or use["left"] is None else use["left"] + made.size_gib


def update(*, image: Image, actor: Actor, changes: Mapping[str, Any]) -> Image:
    """Change what is said of an image. Instances keep what they began with. Raises Invalid."""
    _require_possible(image, changes)
    image, before = change(image, changes)
    record("storage.image.update", image, actor=actor, before=_plain(before), after=_plain(changes))
    return image


def _require_possible(image: Image, changes: Mapping[str, Any]) -> None:
    """Raises Invalid, with all faults, for a machine that cannot be."""
    if not changes.keys() & {"architecture", *image.hardware} and not image._state.adding:
        return
    wish = {name: changes.get(name, value) for name, value in image.hardware.items()}
    architecture = changes.get("architecture", image.architecture)
    if wrong := hardware.faults(architecture, wish, own_kernel=image.has_own_kernel):
        raise Invalid(" ".join(wrong.values()), errors=[Fault(f"/{name}", words) for name, words in wrong.items()])


def share(*, image: Image, actor: Actor, project: Project) -> Image:
    """Let another project launch from it. Twice is no error. Raises WrongState."""
    image = Image.objects.select_for_update(no_key=True).get(pk=image.pk)
    if image.visibility == Image.Visibility.PUBLIC:
        raise WrongState(f"{image} is public: every project has it.")
    if project.pk == image.project_id:
        raise Invalid("It is this project's own.", errors=[Fault("/project", "It is this project's own.")])
    if image.shares.count() >= MAX_SHARES:
        raise WrongState(f"{image} is shared with {MAX_SHARES} projects already.")
    _, is_new = ImageShare.objects.get_or_create(image=image, project=project)
    if is_new:
        _set_visibility(image)
        record("storage.image.share", image, actor=actor, after={"project": str(project.pk)})
    return image


def unshare(*, image: Image, actor: Actor, project: Project) -> Image:
    """Take it back. Instances that were launched from it stay."""
    image = Image.objects.select_for_update(no_key=True).get(pk=image.pk)
    removed, _ = ImageShare.objects.filter(image=image, project=project).delete()
    if removed:
        _set_visibility(image)
        record("storage.image.unshare", image, actor=actor, before={"project": str(project.pk)})
    return image


def _set_visibility(image: Image) -> None:
    shared = image.shares.exists()
    image.visibility = Image.Visibility.SHARED if shared else Image.Visibility.PRIVATE
    image.save(update_fields=["visibility"])


def publish(*, image: Image, actor: Actor, public: bool) -> Image:
    """Show it in every project, or take that back. For admins of the cloud. Raises WrongState."""
    image = Image.objects.select_for_update(no_key=True).get(pk=image.pk)
    if image.project_id is None and not public:
        raise WrongState(f"{image} is the cloud's own, and public. Deprecate it, or delete it.")
    before = image.visibility
    if public:
        image.visibility = Image.Visibility.PUBLIC
        image.save(update_fields=["visibility"])
    else:
        _set_visibility(image)
    if image.visibility != before:
        after = {"visibility": image.visibility}
        record("storage.image.publish", image, actor=actor, before={"visibility": before}, after=after)
    return image


def delete(*, image: Image, actor: Actor) -> Image:
    """End its import, if that is under way, and remove it for good. Raises Protected, InUse.

    What a user deletes goes through the trash: see storage/services/trash.py.
    """
    image = lock_to_delete(image)
    engine.start(DeleteImage, image, actor=actor)
    image.status = Image.Status.DELETING
    image.save(update_fields=["status"])
    record("storage.image.delete", image, actor=actor, before={"name": image.name, "version": image.version})
    return image


def lock_to_delete(image: Image) -> Image:
    """The image as it is now, under its locks. Raises Protected, InUse."""
    engine.lock("image", image.pk)
    image = Image.objects.select_for_update().get(pk=image.pk)
    if image.protected:
        raise Protected(f"{image} is protected. Switch that off first.")
    uses.refuse_deletion(image)
    return image


def now() -> datetime:
    return timezone.now()


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if hasattr(value, "isoformat") else value for key, value in values.items()}
