"""What may be done with images, volumes and snapshots: one module for each kind of resource."""

from storage.services import trash as trash  # registers what goes through it
from storage.services.publishing import choices_of, image_called, images_of, keep_file, publish_image

__all__ = ["choices_of", "image_called", "images_of", "keep_file", "publish_image"]
