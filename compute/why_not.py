"""What stands in the way of a verb: the API's refusal and the tooltip of its button come from the same function.

Each takes an instance and returns a sentence that begins with "It", or "" when the verb is possible. What is under way
with the instance is not their business: the engine refuses a verb that may not take over from it.
"""

from compute.models import Instance, Power
from compute.volumes import boots_from_volume, slots
from storage import hardware
from storage.services import captures

STILL = (Power.PAUSED, Power.SUSPENDED)
ALIVE = (Power.RUNNING, *STILL)  # with something in its memory


def nothing(instance: Instance) -> str:
    """Of a verb that is possible in every state."""
    return ""


def delete(instance: Instance) -> str:
    return "It is protected from being deleted. Switch its protection off first." if instance.protected else ""


def reboot(instance: Instance) -> str:
    if instance.host_id is not None and instance.wanted_power in STILL:
        return f"It is {instance.wanted_power}. Resume it instead."
    if instance.host_id is None or instance.wanted_power != Power.RUNNING:
        return "It is not running. Start it instead."
    return ""


def pause(instance: Instance) -> str:
    if instance.wanted_power == Power.SUSPENDED and instance.seen == Power.SUSPENDED:
        return "It is suspended already."
    if instance.wanted_power == Power.SUSPENDED or not _is_alive(instance):
        return "It is not running."
    return _not_offered(instance, "pause")


def suspend(instance: Instance) -> str:
    if not _is_alive(instance):
        return "It is not running."
    return _not_offered(instance, "suspend")


def resume(instance: Instance) -> str:
    is_alive = instance.wanted_power == Power.RUNNING and instance.seen in ALIVE
    if instance.host_id is None or not (is_alive or instance.wanted_power in STILL):
        return "It is not paused or suspended."
    return ""


def clone(instance: Instance) -> str:
    if not _is_alive(instance):
        return "It is not running: a clone goes on from what is in its memory."
    if slots(instance):
        return "It has volumes, which its clones cannot have as well. Detach them first."
    return _not_offered(instance, "clone")


def reset_password(instance: Instance) -> str:
    if instance.host_id is None:
        return "It has no host. Start it instead."
    if Power.SUSPENDED in (instance.wanted_power, instance.seen):
        return "It is suspended, and its guest is told while it runs or at a start. Resume or stop it first."
    return ""


def create_image(instance: Instance) -> str:
    host = instance.host
    if host is None or instance.seen not in (*ALIVE, Power.STOPPED):
        return "It has no disk yet: it has not been started."
    if not captures.able(host):
        return "Its host makes no images: qemu-img is not installed there, or its agent is too old."
    if boots_from_volume(instance):
        return "It boots from a volume. Take a snapshot of that, or clone it."
    has_emulator = {instance.wanted_power, instance.seen} & {Power.RUNNING, Power.PAUSED}
    if has_emulator and "copy" not in instance.hypervisor_facts.get("verbs", []):
        return f"It runs, and {instance.hypervisor} on its host copies no disk meanwhile. Stop it first."
    return ""


def snapshot(instance: Instance) -> str:
    if instance.host_id is None:
        return "It has no host. Start it instead."
    return "" if boots_from_volume(instance) else create_image(instance)


def attach_nic(instance: Instance) -> str:
    return _not_pluggable(instance)


def attach_volume(instance: Instance) -> str:
    return _not_pluggable(instance) or _not_on_its_bus(instance)


def detach_volume(instance: Instance) -> str:
    return detach_nic(instance) or _not_on_its_bus(instance)


def detach_nic(instance: Instance) -> str:
    if words := _not_pluggable(instance):
        return words
    if Power.PAUSED in (instance.wanted_power, instance.seen):
        return "It is paused, and its guest has to let go of what is taken away. Resume it first."
    return ""


def _not_pluggable(instance: Instance) -> str:
    """Of what changes the devices of an instance, at once while it runs, else at its next start."""
    if instance.host_id is None:
        return "It has no host. Start it instead."
    if Power.SUSPENDED in (instance.wanted_power, instance.seen):
        return "It is suspended, and goes on with the devices that it has. Resume or stop it first."
    runs = instance.wanted_power in ALIVE or instance.seen in ALIVE
    if runs and "plug" not in instance.hypervisor_facts.get("verbs", []):
        return f"It runs, and {instance.hypervisor} on its host plugs nothing into a running machine. Stop it first."
    return ""


def _not_on_its_bus(instance: Instance) -> str:
    bus = hardware.disk_bus(instance.hardware)
    runs = instance.wanted_power in ALIVE or instance.seen in ALIVE
    if runs and bus not in hardware.HOT_PLUG_BUSES:
        return f"It runs, and nothing is plugged into {hardware.name(bus)} while a machine runs. Stop it first."
    return ""


def resize(instance: Instance) -> str:
    if instance.failed_at or instance.host_id is None:
        return "It is on no host yet."
    if instance.snapshot or instance.clone_of_snapshot:
        return "It is being cloned. Wait for its clones."
    for power in STILL:
        if power in (instance.wanted_power, instance.seen):
            return f"It is {power}, and goes on with the memory that it has. Resume it first."
    return ""


def resize_at_once(instance: Instance) -> str:
    """Of a resize that must not restart it."""
    if instance.wanted_power != Power.STOPPED:
        return "It runs, and gets another size only while it is stopped. Stop it first, or ask for a restart."
    return ""


def insert_cd(instance: Instance) -> str:
    if words := _has_no_cds(instance):
        return words
    if not instance.cd_drive and (instance.wanted_power in ALIVE or instance.seen in ALIVE):
        return "It runs without a CD drive. Stop it first: its next start gives it one."
    return ""


def eject_cd(instance: Instance) -> str:
    return _has_no_cds(instance) or ("" if instance.cd_id else "It has no CD in its drive.")


def _has_no_cds(instance: Instance) -> str:
    if instance.host_id is None:
        return "It has no host. Start it instead."
    if Power.SUSPENDED in (instance.wanted_power, instance.seen):
        return "It is suspended, and goes on with the CD that it has. Resume or stop it first."
    if "cd" not in instance.hypervisor_facts.get("verbs", []):
        return f"{instance.hypervisor} on its host has no CD drives."
    return ""


def move(instance: Instance) -> str:
    """To another host."""
    if instance.failed_at or instance.host_id is None:
        return "It is on no host yet."
    if instance.snapshot or instance.clone_of_snapshot:
        return "It is being cloned. Wait for its clones."
    if instance.wanted_power in STILL:
        return f"It is {instance.wanted_power}, with its memory on its host. Resume it, then stop it."
    if instance.wanted_power != Power.STOPPED or not instance.has_been_seen(Power.STOPPED):
        return "It is not stopped, and only what stands still can be moved. Stop it first."
    return ""


def take_over(instance: Instance) -> str:
    """From a host that is not heard of."""
    if instance.failed_at or instance.host_id is None:
        return "It is on no host yet."
    if instance.snapshot or instance.clone_of_snapshot:
        return "It is being cloned. Wait for its clones."
    if not boots_from_volume(instance):
        return (
            "It has its own disk on that host and nowhere else. Take over its volumes that are in shared folders or "
            "in Ceph, each on its page, and attach them to another instance."
        )
    return ""


def _is_alive(instance: Instance) -> bool:
    """Whether it has something in its memory, and should have."""
    return instance.host_id is not None and instance.wanted_power in ALIVE and instance.seen in ALIVE


def _not_offered(instance: Instance, verb: str) -> str:
    if verb not in instance.hypervisor_facts.get("verbs", []):
        return f"{instance.hypervisor} on its host cannot {verb} machines."
    return ""
