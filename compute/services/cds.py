"""The CD in the drive of an instance: an ISO that is put in, and taken out."""

from cloud.events.services import Actor
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.problems import Fault, Invalid
from compute import why_not
from compute.models import Instance, Power
from compute.services.problems import require
from compute.services.wishes import record_verb, wish
from compute.workflows import EjectCd, InsertCd
from storage.models import Image


def insert_cd(*, instance: Instance, actor: Actor, image: Image | None = None) -> Operation:
    """Replace what is in its CD drive by an ISO: at once if it runs, otherwise at its next start, which gives it a
    drive if it has none. Raises Invalid, WrongState, Busy.
    """
    operation = engine.start(InsertCd, instance, actor=actor)
    _remember(operation, instance)
    require(instance, why_not.insert_cd(instance))
    iso = _iso(image)
    wish(operation, instance, Power(instance.wanted_power), cd=iso, cd_drive=True)
    record_verb("insert-cd", instance, actor, image=iso.name)
    return operation


def eject_cd(*, instance: Instance, actor: Actor) -> Operation:
    """Take the CD out of its drive, which it keeps. Raises WrongState, Busy."""
    operation = engine.start(EjectCd, instance, actor=actor)
    _remember(operation, instance)
    require(instance, why_not.eject_cd(instance))
    wish(operation, instance, Power(instance.wanted_power), cd=None)
    record_verb("eject-cd", instance, actor, image=str(instance.cd))
    return operation


def _remember(operation: Operation, instance: Instance) -> None:
    """Keep what giving up leads back to: the drive as it is now. Its live operation locks the instance."""
    instance.refresh_from_db(fields=["cd", "cd_drive"])
    cd = str(instance.cd_id) if instance.cd_id else None
    operation.parameters = {"cd": cd, "cd_drive": instance.cd_drive}
    operation.save(update_fields=["parameters"])


def _iso(image: Image | None) -> Image:
    """The image as it is now, under its lock, if it is an ISO that is ready. Raises Invalid."""
    found = image and Image.objects.select_for_update(of=("self",), no_key=True).filter(pk=image.pk).first()
    words = ""
    if found is None:
        words = "Give an image that is an ISO."
    elif not found.is_ready:
        words = f"{found} is not ready: it is {found.status}."
    elif not found.is_cdrom:
        words = f"{found} is not an ISO. Import it with the format iso."
    if found is None or words:
        raise Invalid(words, errors=[Fault("/image", words)])
    return found
