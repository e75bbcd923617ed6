# SPDX-License-Identifier: GPL-2.0-or-later
"""What this process gives up before the guest runs: limits, privileges, and system calls that an emulator never needs.

Unicorn is no security boundary; this is a second line. Source: Linux's Documentation/userspace-api/seccomp_filter.rst;
numbers from asm/unistd_64.h and asm-generic/unistd.h.
"""

import ctypes
import errno
import platform
import resource
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, AT_LEAST, SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions of classic BPF
ALLOW, REFUSE, KILL = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
NUMBER_AT, ARCHITECTURE_AT, FIRST_ARGUMENT_AT = 0, 4, 16
CLONE_THREAD = 0x10000
X32 = 0x4000_0000
OVERHEAD_BYTES = 2 << 30  # address space beside the guest's memory: interpreter, libraries, stacks, translations

# Programs, other processes, other users, namespaces, mounts, modules, tracing, keys, clocks, and ways around the filter.
REFUSED = {
    "x86_64": (
        0xC000_003E,
        {
            *(57, 58, 59, 322, 101, 310, 311, 312, 165, 166, 155, 161, 272, 308, 175, 176, 313, 246, 320, 321, 298),
            *(248, 249, 250, 323, 425, 426, 427, 105, 106, 113, 114, 116, 117, 119, 122, 123, 126, 163, 167, 168, 169),
            *(170, 171, 172, 173, 62, 200, 234, 129, 297, 304, 303, 424, 428, 429, 430, 431, 432, 433, 438, 442, 42),
            *(133, 259, 92, 94, 260, 90, 91, 268, 227, 305, 159, 164, 154, 134, 212),
        },
        {"clone": 56, "clone3": 435, "socket": 41},
    ),
    "aarch64": (
        0xC000_00B7,
        {
            *(221, 281, 117, 270, 271, 272, 40, 39, 41, 51, 97, 268, 105, 106, 273, 104, 294, 280, 241, 217, 218, 219),
            *(282, 425, 426, 427, 146, 144, 145, 143, 147, 149, 159, 151, 152, 91, 89, 224, 225, 142, 161, 162, 129),
            *(130, 131, 138, 240, 265, 264, 424, 428, 429, 430, 431, 432, 433, 438, 442, 203, 33, 54, 55, 52, 53),
            *(112, 266, 171, 170),
        },
        {"clone": 220, "clone3": 435, "socket": 198},
    ),
}
AF_UNIX = 1


def limit(memory_mib: int) -> None:
    """Bounds that hold also without a cgroup. A tighter one that is there already stays."""
    bounds = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_AS: (memory_mib << 21) + OVERHEAD_BYTES,  # twice the guest's: at a reset there are two
    }
    for kind, bound in bounds.items():
        _, hard = resource.getrlimit(kind)
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (bound, bound))


def forswear() -> bool:
    """Refuse this process, for ever, what it does not need; whether this kernel and architecture can."""
    known = REFUSED.get(platform.machine())
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or known is None or sys.byteorder != "little":
        return False
    program = _program(*known)
    instructions = ctypes.create_string_buffer(program)
    filter_ = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0) == 0)


def _program(architecture: int, refused: set[int], special: dict[str, int]) -> bytes:
    """The filter: other architectures kill, processes and foreign sockets are refused, and all that is named."""
    refuse = REFUSE | errno.EPERM
    lines = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER_AT),
        (AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, KILL),
        # The C library falls back to clone, whose flags can be looked at.
        (EQUAL, 0, 1, special["clone3"]),
        (RETURN, 0, 0, REFUSE | errno.ENOSYS),
        (EQUAL, 0, 4, special["clone"]),
        (LOAD, 0, 0, FIRST_ARGUMENT_AT),
        (SET, 0, 1, CLONE_THREAD),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, refuse),
        (EQUAL, 0, 4, special["socket"]),
        (LOAD, 0, 0, FIRST_ARGUMENT_AT),
        (EQUAL, 0, 1, AF_UNIX),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, refuse),
    ]
    for number in sorted(refused):
        lines += [(EQUAL, 0, 1, number), (RETURN, 0, 0, refuse)]
    lines.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("<HBBI", *line) for line in lines)
