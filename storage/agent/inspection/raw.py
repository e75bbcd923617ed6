"""A raw disk: what its guest sees, byte by byte. Whatever it looks like, nothing in it is followed."""

from storage.agent.inspection.common import SECTOR, Examined, Limits, Unfit, Window, check_size


def examine(file: Window, limits: Limits) -> Examined:
    if file.size % SECTOR:
        raise Unfit("The size of a raw disk is a multiple of 512 bytes: it was cut off. Upload it again.")
    check_size(file.size, limits)
    return Examined(file.size)
