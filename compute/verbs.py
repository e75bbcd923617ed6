"""The verbs of an instance, each defined once.

Everything that has to know a verb reads it here: the API's URLs and bodies, the verbs for many, status words, events,
the dashboard's buttons and dialogs, the words of the log, `verify`. docs/adding-a-verb.md shows how one is added.
"""

from typing import Any

from compute import services, why_not, workflows
from compute.api import bodies
from compute.models import Instance, Power
from compute.verb import Verb, Work, is_so


def _needs_no_stop(instance: Instance) -> str:
    if instance.failed_at or instance.host_id is None:
        return "It does not run: it has no host."
    return is_so("stopped", "stopping")(instance)


def _attach(device: str, named: str, **special: Any) -> Verb:
    """A verb that plugs a device in. `named` is how people call one."""
    return Verb(
        name=f"attach-{device}",
        label=f"Attach {named} to",
        button=f"Attach {named}",
        gerund=f"attaching {named}",
        doing=f"getting {named}",
        past=f"attached {named} to",
        asks=True,
        **special,
    )


def _detach(device: str, named: str, **special: Any) -> Verb:
    return Verb(
        name=f"detach-{device}",
        label=f"Detach {named} from",
        button=f"Detach {named}",
        gerund=f"detaching {named}",
        doing=f"losing {named}",
        past=f"detached {named} from",
        icon="cross",
        steps={"unplug": "Take it out"},
        asks=True,
        **special,
    )


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            name="start",
            service=services.start,
            workflow=workflows.StartInstance,
            asks_quota=True,  # a failed launch that is tried again
            restores=Power.RUNNING,
            already=is_so("running", "queued", "launching", "starting", "rebooting"),
            label="Start",
            icon="play",
            gerund="starting",
            doing="starting",
            past="started",
            status="starting",
            boots=True,
            steps={"boot": "Start the machine"},
            says="It starts where it was placed before; after a launch that failed, wherever there is room. "
            "What is paused or suspended goes on.",
            says_for_many="Each starts where it was placed before; after a launch that failed, wherever there is room. "
            "What is paused or suspended goes on.",
            in_rows=True,
        ),
        Verb(
            name="stop",
            service=services.stop,
            body=bodies.StopForm,
            workflow=workflows.StopInstance,
            restores=Power.STOPPED,
            already=_needs_no_stop,
            label="Stop",
            icon="stop",
            gerund="stopping",
            doing="stopping",
            past="stopped",
            status="stopping",
            steps={"halt": "Stop the machine"},
            says="Its disks and its place on the host stay.",
            asks=True,
            in_rows=True,
            taken_back_by="start",
        ),
        Verb(
            name="reboot",
            service=services.reboot,
            body=bodies.RebootForm,
            workflow=workflows.RebootInstance,
            why_not=why_not.reboot,
            already=is_so("rebooting"),
            label="Reboot",
            icon="restart",
            gerund="rebooting",
            doing="rebooting",
            past="rebooted",
            status="rebooting",
            boots=True,
            steps={"restart": "Restart the machine"},
            says="The guest shuts down and starts again, on the same host; `hard` is the reset button.",
            asks=True,
            in_rows=True,
        ),
        Verb(
            name="pause",
            service=services.pause,
            workflow=workflows.PauseInstance,
            restores=Power.PAUSED,
            why_not=why_not.pause,
            already=is_so("paused"),
            label="Pause",
            icon="pause",
            gerund="pausing",
            doing="being paused",
            past="paused",
            steps={"freeze": "Pause the machine"},
            says="It stands still, and keeps what is in its memory, its place and its quota.",
            says_for_many="They stand still, and keep what is in their memory, their places and their quota.",
            taken_back_by="resume",
        ),
        Verb(
            name="suspend",
            service=services.suspend,
            workflow=workflows.SuspendInstance,
            restores=Power.SUSPENDED,
            why_not=why_not.suspend,
            already=is_so("suspended"),
            label="Suspend",
            icon="moon",
            gerund="suspending",
            doing="being suspended",
            past="suspended",
            steps={"save": "Write its memory down"},
            says="It stands still, its memory on its host's disk, where it outlives a restart of the host. "
            "It keeps its place and its quota.",
            says_for_many="They stand still, with what is in their memory on their hosts' disks; "
            "they keep their places and their quota.",
            taken_back_by="resume",
        ),
        Verb(
            name="resume",
            service=services.resume,
            workflow=workflows.ResumeInstance,
            why_not=why_not.resume,
            already=is_so("running"),
            label="Resume",
            icon="play",
            gerund="resuming",
            doing="going on",
            past="resumed",
            steps={"go_on": "Let the machine go on"},
            says="It goes on where it was paused or suspended.",
            says_for_many="They go on where they stood still.",
        ),
        Verb(
            name="clone",
            service=services.clone,
            body=bodies.CloneForm,
            body_for_many=bodies.CloneManyForm,
            workflow=workflows.CloneInstance,
            makes_instances=True,
            asks_quota=True,
            why_not=why_not.clone,
            label="Clone",
            icon="copy",
            gerund="cloning",
            doing="being cloned",
            past="cloned",
            steps={
                "snapshot": "Take a snapshot",
                "wait": "Let the clones begin",
                "tidy": "Drop the snapshot",
            },
            says="Instances that go on from where this one is, each as somebody else.",
            asks=True,
        ),
        Verb(
            name="snapshot",
            service=services.snapshot,
            body=bodies.SnapshotInstanceForm,
            body_for_many=bodies.SnapshotManyForm,
            workflow=workflows.SnapshotInstance,
            asks_quota=True,
            why_not=why_not.snapshot,
            label="Take a snapshot of",
            button="Snapshot",
            icon="camera",
            gerund="taking a snapshot",
            doing="having a snapshot taken",
            past="took a snapshot of",
            steps={"keep_volumes": "Set its volumes aside", "drop": "Drop what was kept"},
            says="What is on all of its disks is kept: an image of its own disk, and a snapshot of each volume.",
            asks=True,
        ),
        Verb(
            name="resize",
            service=services.resize,
            body=bodies.ResizeInstanceForm,
            body_for_many=bodies.ResizeManyForm,
            workflow=workflows.ResizeInstance,
            asks_quota=True,
            why_not=why_not.resize,
            label="Resize",
            icon="size",
            gerund="resizing",
            doing="being resized",
            past="resized",
            status="resizing",
            steps={"fit": "Stop it and fit its disk", "boot": "Start the machine"},
            says="It gets the vCPUs, the memory, the disk, the network limit and the price of another flavor. It stays "
            "on its host, and is stopped meanwhile. Its own disk only grows, never shrinks.",
            asks=True,
        ),
        Verb(
            name="reset-password",
            service=services.reset_password,
            body=bodies.ResetPasswordForm,
            workflow=workflows.ResetPassword,
            generates_password=True,
            why_not=why_not.reset_password,
            label="Reset the password of",
            button="Reset password",
            icon="key",
            gerund="resetting the password",
            doing="getting a new password",
            past="reset the password of",
            steps={"tell": "Tell its host"},
            says="A user of its guest, by default its image's, gets a new password. A guest agent that answers sets it "
            "at once. Without one, the guest gets it from its seed at its next start, or now with `reboot`: guests "
            "with cloud-init take it, and tiny-linux.",
            asks=True,
        ),
        _attach(
            "nic",
            "a NIC",
            service=services.attach_nic,
            body=bodies.AttachNicForm,
            body_for_many=bodies.AttachManyForm,
            workflow=workflows.AttachNic,
            asks_quota=True,
            why_not=why_not.attach_nic,
            icon="plus",
            steps={"connect": "Make the network", "plug": "Plug it in"},
            says="One more NIC, at once while it runs, else at its next start. The guest asks for its address by DHCP.",
            says_for_many="Each gets one more NIC, at once while it runs, else at its next start.",
        ),
        _detach(
            "nic",
            "a NIC",
            service=services.detach_nic,
            body=bodies.DetachNicForm,
            body_for_many=bodies.DetachManyForm,
            workflow=workflows.DetachNic,
            why_not=why_not.detach_nic,
            says="The NIC is taken out, at once while it runs, else at its next start. "
            "A port that was made for it is deleted.",
            says_for_many="Each loses its NIC on this network, at once while it runs, else at its next start.",
        ),
        _attach(
            "volume",
            "a volume",
            service=services.attach_volume,
            body=bodies.AttachVolumeForm,
            workflow=workflows.AttachVolume,
            why_not=why_not.attach_volume,
            icon="disk",
            steps={"bring": "Make its files", "plug": "Plug it in"},
            says="One more disk, at once while it runs, else at its next start.",
            says_for_many="A volume is a disk of one instance: only the first gets it.",
        ),
        _detach(
            "volume",
            "a volume",
            service=services.detach_volume,
            body=bodies.DetachVolumeForm,
            workflow=workflows.DetachVolume,
            why_not=why_not.detach_volume,
            says="The disk is taken out, at once while it runs. Unmount it in the guest first. What is on it stays.",
            says_for_many="The one that has it lets go of it.",
        ),
        Verb(
            name="insert-cd",
            service=services.insert_cd,
            body=bodies.InsertCdForm,
            workflow=workflows.InsertCd,
            why_not=why_not.insert_cd,
            label="Insert a CD into",
            button="Insert a CD",
            icon="disk",
            gerund="inserting a CD",
            doing="getting a CD",
            past="inserted a CD into",
            steps={"insert": "Put it into the drive"},
            says="An ISO replaces what is in its CD drive: at once if it runs, otherwise at its next start.",
            asks=True,
        ),
        Verb(
            name="eject-cd",
            service=services.eject_cd,
            workflow=workflows.EjectCd,
            why_not=why_not.eject_cd,
            label="Eject the CD of",
            button="Eject the CD",
            icon="cross",
            gerund="ejecting the CD",
            doing="losing its CD",
            past="ejected the CD of",
            steps={"eject": "Take it out of the drive"},
            says="Its CD drive is emptied. The guest is asked to release the CD, and loses it after some seconds.",
            says_for_many="Their CD drives are emptied. The guests are asked to release their CDs, and lose them after "
            "some seconds.",
            asks=True,
        ),
        Verb(
            name="delete",
            service=services.discard,
            body=bodies.DeleteForm,
            workflow=workflows.DiscardInstance,
            already=why_not.delete,
            method="DELETE",
            label="Delete",
            icon="trash",
            gerund="deleting",
            doing="being deleted",
            past="deleted",
            status="deleting",
            steps={"halt": "Stop the machine", "let_go": "Give back all but its disk"},
            says="Stops it, whatever it is doing, and puts it into the trash: for a day it can be restored with its "
            "disks, then it is deleted for good. What it was stays in the log of events.",
            asks=True,
            in_rows=True,
            style="danger",
        ),
    )
}
# Launches have no instance yet that they would be a verb of.
LAUNCH_WORDS: dict[str, Any] = {
    "name": "launch",
    "gerund": "launching",
    "past": "launched",
    "status": "launching",
    "steps": {"place": "Choose a host", "boot": "Start the machine"},
}
LAUNCH = Work(workflow=workflows.LaunchInstance, boots=True, **LAUNCH_WORDS)
LAUNCH_CLONE = Work(workflow=workflows.LaunchClone, **LAUNCH_WORDS)
MOVE = Work(
    name="move",
    workflow=workflows.MoveInstance,
    gerund="moving",
    past="began to move",
    status="moving",
    steps={
        "send": "Send it",
        "receive": "Copy it to the other host",
        "take_in": "Put it in its place there",
        "take_over": "Say that it is there",
    },
)
TAKE_OVER = Work(
    name="take_over",
    workflow=workflows.TakeOverInstance,
    gerund="taking over",
    past="took over",
    status="starting",
    boots=True,
    steps={"fence": "Wait until the host before can write nothing any more", "boot": "Start the machine"},
)
LOSE = Work(
    name="lose",
    workflow=workflows.LoseInstance,
    gerund="removing the machine of",
    past="removed the machine of",
    status="stopping",
    steps={"destroy": "Remove the machine", "forget": "Let go of its volumes"},
)
RESTORE = Work(
    name="restore",
    workflow=workflows.RestoreInstance,
    gerund="restoring",
    past="took out of the trash",
    status="starting",
    boots=True,
    steps={"boot": "Start the machine"},
)
PURGE = Work(
    name="purge",
    workflow=workflows.DeleteInstance,
    gerund="deleting for good",
    past="deleted for good",
    status="deleting",
    steps={"destroy": "Remove the machine", "forget": "Forget it"},
)
WORK: tuple[Work, ...] = (LAUNCH, LAUNCH_CLONE, *VERBS.values(), MOVE, TAKE_OVER, LOSE, RESTORE, PURGE)
