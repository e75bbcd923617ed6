"""What may be done with images, volumes and snapshots: one module for each kind of resource."""

from storage.services.publishing import images_of, keep_file, publish_image

__all__ = ["images_of", "keep_file", "publish_image"]
