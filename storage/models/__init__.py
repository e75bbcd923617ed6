"""What guests' disks are made of: images, volumes, their snapshots and their backups."""

from storage.models.backups import Backup, BackupBlock, BackupPart, BackupPolicy, BackupSpace
from storage.models.caches import CachedFile
from storage.models.hosted import VolumeOnHost
from storage.models.images import Image, ImageShare
from storage.models.imports import ImageExport, ImageImport, Upload
from storage.models.transfers import Transfer, TransferOnHost
from storage.models.types import VolumeType
from storage.models.volumes import Attachment, Layer, Snapshot, Volume

__all__ = [
    "Attachment", "Backup", "BackupBlock", "BackupPart", "BackupPolicy", "BackupSpace", "CachedFile", "Image",
    "ImageExport", "ImageImport", "ImageShare", "Layer", "Snapshot", "Transfer", "TransferOnHost", "Upload", "Volume",
    "VolumeOnHost", "VolumeType",
]  # fmt: skip
