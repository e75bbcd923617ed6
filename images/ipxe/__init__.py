"""ipxe: a network boot loader that runs a script out of the user data; no Linux."""

from .recipe import Ipxe

__all__ = ["Ipxe"]
