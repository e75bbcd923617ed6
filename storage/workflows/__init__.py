"""What the cloud does with a volume: one class a verb, one method a step."""

from storage.workflows.backups import CopyVolume
from storage.workflows.create import CreateVolume
from storage.workflows.delete import DeleteVolume
from storage.workflows.flatten import FlattenVolume
from storage.workflows.layering import CaptureVolume, CloneVolume, RestoreBackup, RevertVolume, SnapshotVolume
from storage.workflows.moves import MoveAlong, MoveVolume, TakeOverVolume
from storage.workflows.resize import ResizeVolume
from storage.workflows.retype import RetypeVolume

__all__ = [
    "CaptureVolume", "CloneVolume", "CopyVolume", "CreateVolume", "DeleteVolume", "FlattenVolume", "MoveAlong",
    "MoveVolume", "ResizeVolume", "RestoreBackup", "RetypeVolume", "RevertVolume", "SnapshotVolume",
    "TakeOverVolume",
]  # fmt: skip
