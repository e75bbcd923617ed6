"""debian: a whole Debian with systemd and cloud-init, as Debian's own cloud images have them."""

from .recipe import DebianCloud

__all__ = ["DebianCloud"]
