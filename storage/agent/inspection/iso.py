"""A CD or DVD image. Source: ECMA-119 (ISO 9660), 8.4."""

from storage.agent.inspection.common import Examined, Limits, Unfit, Window, check_size

DESCRIPTOR_OFFSET = 32 << 10
PRIMARY = 1


def examine(file: Window, limits: Limits) -> Examined:
    kind, name = file.fields("<B5s", DESCRIPTOR_OFFSET, "volume descriptor")
    check_size(file.size, limits)
    if kind == PRIMARY and name == b"CD001":
        (blocks,) = file.fields("<I", DESCRIPTOR_OFFSET + 80)
        (block,) = file.fields("<H", DESCRIPTOR_OFFSET + 128)
        if blocks * block > file.size:
            raise Unfit("The CD image ends early: it was cut off. Upload it again.")
    return Examined(-(-file.size // 512) * 512)
