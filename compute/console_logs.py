"""What guests wrote to their serial consoles: its end, which hosts push, and all that they still keep."""

from uuid import UUID

from django.db.models.functions import Now

from cloud.hosts.models import Host
from cloud.streams import handover
from compute import boots
from compute.models import ConsoleLog, Instance, Machine


def keep(*, host: Host, instance_id: UUID, offset: int, content: bytes) -> bool:
    """Keep the end of a serial log that its host pushes. False when the instance is not placed there."""
    if not Machine.objects.filter(instance=instance_id, host=host).exists():
        return False
    ConsoleLog.objects.update_or_create(
        instance_id=instance_id, defaults={"offset": offset, "content": content, "updated_at": Now()}
    )
    boots.hear(instance_id, offset=offset, content=content)
    return True


def end(instance: Instance, *, lines: int | None = None) -> tuple[list[str], bool]:
    """The last lines of an instance's serial log as far as it was pushed, and whether there was more before them."""
    log = ConsoleLog.objects.filter(instance=instance).first()
    if log is None:
        return [], False
    found = lines_of(bytes(log.content))
    first = max(0, len(found) - lines) if lines else 0
    return found[first:], first > 0 or log.offset > 0


def whole(instance: Instance) -> tuple[list[str], bool]:
    """The serial log as far as it is kept: all of it from the host, or its end when the host does not answer; and
    whether there was more before. Waits for the host, so in no transaction."""
    if instance.host_id is not None:
        wish = {"what": "log", "machine": str(instance.pk), "generation": instance.generation}
        answer, content = handover.ask_host(instance.host_id, wish)
        if "code" not in answer:
            return lines_of(content), bool(answer.get("offset"))
    return end(instance)


def lines_of(content: bytes) -> list[str]:
    """A serial log as lines of text."""
    text = content.decode("utf-8", "replace").replace("\r\n", "\n").replace("\x00", "")
    return text.removesuffix("\n").split("\n") if text else []
