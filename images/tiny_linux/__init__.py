"""tiny-linux: Debian's kernel, busybox, dropbear and a first-boot agent; the smallest guest that is still a machine."""

from .recipe import TinyLinux

__all__ = ["TinyLinux"]
