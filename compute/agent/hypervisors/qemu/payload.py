"""The smallest guests that prove an accelerator: they print a token on the first serial port and switch off.

Written in machine code so that nothing has to be on the host but QEMU itself.
"""

import struct

TOKEN = b"PILEUS-GUEST-RAN"


def _words(*words: int) -> bytes:
    return b"".join(struct.pack("<I", word) for word in words)


def x86_64() -> bytes:
    """A Multiboot kernel (specification 0.6.96, section 3.1) in 32-bit code."""
    load, header_size = 0x100000, 32
    code_size = 29
    text = load + header_size + code_size
    code = (
        b"\xbe"
        + struct.pack("<I", text)  # mov esi, text
        + b"\x66\xba\xf8\x03"  # mov dx, 0x3f8: the first 16550
        + b"\xac"  # next: lodsb
        + b"\x84\xc0"  # test al, al
        + b"\x74\x03"  # jz done
        + b"\xee"  # out dx, al
        + b"\xeb\xf8"  # jmp next
        + b"\x66\xba\xf4\x00"  # done: mov dx, 0xf4: isa-debug-exit
        + b"\x31\xc0"  # xor eax, eax
        + b"\xef"  # out dx, eax: QEMU exits with status 1
        + b"\xfa\xf4"  # cli; hlt
        + b"\xeb\xfc"  # jmp back to cli
        + b"\x90"
    )
    assert len(code) == code_size
    magic, flags = 0x1BADB002, 0x10000
    end = text + len(TOKEN) + 1
    header = _words(magic, flags, -(magic + flags) & 0xFFFFFFFF, load, load, end, end, load + header_size)
    return header + code + TOKEN + b"\0"


def aarch64() -> bytes:
    """Flat code for `-kernel` on the virt board: PL011 at 0x09000000, then PSCI SYSTEM_OFF (Arm DEN 0022)."""
    code = _words(
        0x10000140,  # adr x0, text
        0xD2A12001,  # movz x1, #0x900, lsl 16
        0x38401402,  # next: ldrb w2, [x0], #1
        0x34000062,  # cbz w2, done
        0xB9000022,  # str w2, [x1]
        0x17FFFFFD,  # b next
        0x52800100,  # done: movz w0, #0x0008
        0x72B08000,  # movk w0, #0x8400, lsl 16
        0xD4000002,  # hvc #0
        0x14000000,  # b .
    )
    return code + TOKEN + b"\0"


def riscv64() -> bytes:
    """Flat code for `-bios` on the virt board: ns16550 at 0x10000000, then the SiFive test device at 0x100000."""
    code = _words(
        0x00000297,  # auipc t0, 0
        0x03428293,  # addi t0, t0, 52: text
        0x10000337,  # lui t1, 0x10000
        0x0002C383,  # next: lbu t2, 0(t0)
        0x00038863,  # beqz t2, done
        0x00730023,  # sb t2, 0(t1)
        0x00128293,  # addi t0, t0, 1
        0xFF1FF06F,  # j next
        0x00100337,  # done: lui t1, 0x100
        0x000053B7,  # lui t2, 0x5
        0x55538393,  # addi t2, t2, 0x555
        0x00732023,  # sw t2, 0(t1)
        0x0000006F,  # j .
    )
    return code + TOKEN + b"\0"
