"""What guests' disks are made of: images, volumes and their snapshots."""

from storage.models.hosted import VolumeOnHost
from storage.models.images import Image
from storage.models.volumes import Attachment, Layer, Snapshot, Volume

__all__ = ["Attachment", "Image", "Layer", "Snapshot", "Volume", "VolumeOnHost"]
