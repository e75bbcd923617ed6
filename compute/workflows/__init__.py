"""What the cloud does with an instance: one class a verb, one method a step."""

from compute.workflows.cds import EjectCd, InsertCd
from compute.workflows.clone import CloneInstance, LaunchClone
from compute.workflows.delete import DeleteInstance
from compute.workflows.devices import AttachNic, AttachVolume, DetachNic, DetachVolume
from compute.workflows.launch import LaunchInstance
from compute.workflows.lose import LoseInstance
from compute.workflows.moves import MoveInstance, TakeOverInstance
from compute.workflows.passwords import ResetPassword
from compute.workflows.power import (
    PauseInstance,
    RebootInstance,
    ResumeInstance,
    StartInstance,
    StopInstance,
    SuspendInstance,
)
from compute.workflows.resize import ResizeInstance
from compute.workflows.snapshot import SnapshotInstance
from compute.workflows.trash import DiscardInstance, RestoreInstance

__all__ = [
    "AttachNic",
    "AttachVolume",
    "CloneInstance",
    "DeleteInstance",
    "DetachNic",
    "DetachVolume",
    "DiscardInstance",
    "EjectCd",
    "InsertCd",
    "LaunchClone",
    "LaunchInstance",
    "LoseInstance",
    "MoveInstance",
    "PauseInstance",
    "RebootInstance",
    "ResetPassword",
    "ResizeInstance",
    "RestoreInstance",
    "ResumeInstance",
    "SnapshotInstance",
    "StartInstance",
    "StopInstance",
    "SuspendInstance",
    "TakeOverInstance",
]
