"""Guests of a few instructions for the embedded emulator, in machine code. They begin in supervisor mode at ENTRY."""

import struct

GREETING = b"hello from a very small guest\r\n"


def words(*code: int) -> bytes:
    return struct.pack(f"<{len(code)}I", *code)


def greeting() -> bytes:
    """Prints a line through the firmware, and waits for ever."""
    code = words(
        0x0000_0297,  # auipc t0, 0
        0x0240_0313,  # li t1, 36: where the text is
        0x0062_82B3,  # add t0, t0, t1
        0x0002_C503,  # next: lbu a0, 0(t0)
        0x0005_0A63,  # beqz a0, +20: done
        0x0010_0893,  # li a7, 1: console putchar
        0x0000_0073,  # ecall
        0x0012_8293,  # addi t0, t0, 1
        0xFEDF_F06F,  # j next
    )
    return code[:4] + words(0x02C0_0313) + code[8:] + words(0x1050_0073, 0xFFDF_F06F) + GREETING + b"\0"


def calling(extension: int) -> bytes:
    """Makes the first eight calls of a firmware extension, and greets."""
    high, low = extension + 0x800 >> 12 & 0xFFFFF, extension & 0xFFF
    return (
        words(
            high << 12 | 0x8B7,  # lui a7, high
            low << 20 | 0x0008_8893,  # addi a7, a7, low
            0x0000_0813,  # li a6, 0
            0x0080_0313,  # li t1, 8
            0x0000_0513,  # again: li a0, 0
            0x0000_0593,  # li a1, 0
            0x0000_0073,  # ecall
            0x0018_0813,  # addi a6, a6, 1
            0xFE68_18E3,  # bne a6, t1, again
        )
        + greeting()
    )


def spinning() -> bytes:
    """Computes for ever."""
    return words(0x0012_8293, 0xFFDF_F06F)  # addi t0, t0, 1; j -4


def shouting() -> bytes:
    """Writes to the serial port for ever."""
    return words(0x1000_0337, 0x0210_0393, 0x0073_0023, 0xFFDF_F06F)  # lui t1; li t2, '!'; sb t2, (t1); j -4


def echoing() -> bytes:
    """Writes back what it reads on the serial port."""
    return words(
        0x1000_0337,  # lui t1, 0x10000
        0x0053_0383,  # again: lb t2, 5(t1)
        0x0013_F393,  # andi t2, t2, 1
        0xFE03_8CE3,  # beqz t2, again
        0x0003_4383,  # lbu t2, 0(t1)
        0x0073_0023,  # sb t2, (t1)
        0xFEDF_F06F,  # j again
    )
