# SPDX-License-Identifier: GPL-2.0-or-later
"""What this process gives up before the guest runs: limits, privileges, and system calls that an emulator never needs.

Unicorn is no security boundary; this is a second line. Source: Linux's Documentation/userspace-api/seccomp_filter.rst;
numbers from asm/unistd_64.h and asm-generic/unistd.h.
"""

import ctypes
import errno
import os
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

# Programs, other processes, users, namespaces, mounts, modules, tracing, keys, clocks, other hosts, ways around this.
REFUSED = {
    "x86_64": """
        fork 57 vfork 58 execve 59 execveat 322 kill 62 tkill 200 tgkill 234 rt_sigqueueinfo 129 rt_tgsigqueueinfo 297
        pidfd_send_signal 424 pidfd_getfd 438 ptrace 101 process_vm_readv 310 process_vm_writev 311 kcmp 312
        setuid 105 setgid 106 setreuid 113 setregid 114 setgroups 116 setresuid 117 setresgid 119 setfsuid 122
        setfsgid 123 capset 126 unshare 272 setns 308 chroot 161 pivot_root 155 mount 165 umount2 166 open_tree 428
        move_mount 429 fsopen 430 fsconfig 431 fsmount 432 fspick 433 mount_setattr 442 swapon 167 swapoff 168
        init_module 175 delete_module 176 finit_module 313 kexec_load 246 kexec_file_load 320 reboot 169 acct 163
        bpf 321 perf_event_open 298 userfaultfd 323 io_uring_setup 425 io_uring_enter 426 io_uring_register 427
        add_key 248 request_key 249 keyctl 250 connect 42 name_to_handle_at 303 open_by_handle_at 304 mknod 133
        mknodat 259 chown 92 fchown 93 lchown 94 fchownat 260 chmod 90 fchmod 91 fchmodat 268 sethostname 170
        setdomainname 171 iopl 172 ioperm 173 modify_ldt 154 uselib 134 lookup_dcookie 212 settimeofday 164
        adjtimex 159 clock_settime 227 clock_adjtime 305
    """,
    "aarch64": """
        execve 221 execveat 281 kill 129 tkill 130 tgkill 131 rt_sigqueueinfo 138 rt_tgsigqueueinfo 240
        pidfd_send_signal 424 pidfd_getfd 438 ptrace 117 process_vm_readv 270 process_vm_writev 271 kcmp 272
        setuid 146 setgid 144 setreuid 145 setregid 143 setgroups 159 setresuid 147 setresgid 149 setfsuid 151
        setfsgid 152 capset 91 unshare 97 setns 268 chroot 51 pivot_root 41 mount 40 umount2 39 open_tree 428
        move_mount 429 fsopen 430 fsconfig 431 fsmount 432 fspick 433 mount_setattr 442 swapon 224 swapoff 225
        init_module 105 delete_module 106 finit_module 273 kexec_load 104 kexec_file_load 294 reboot 142 acct 89
        bpf 280 perf_event_open 241 userfaultfd 282 io_uring_setup 425 io_uring_enter 426 io_uring_register 427
        add_key 217 request_key 218 keyctl 219 connect 203 name_to_handle_at 264 open_by_handle_at 265 mknodat 33
        fchown 55 fchownat 54 fchmod 52 fchmodat 53 sethostname 161 setdomainname 162 settimeofday 170
        adjtimex 171 clock_settime 112 clock_adjtime 266
    """,
}
AUDIT_ARCHITECTURE = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
LOOKED_AT = {
    "x86_64": {"clone": 56, "clone3": 435, "socket": 41},
    "aarch64": {"clone": 220, "clone3": 435, "socket": 198},
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
        lower = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (lower, lower))


def forswear() -> bool:
    """Install the seccomp filter; returns False where this kernel or architecture has none."""
    machine = os.uname().machine
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or machine not in REFUSED or sys.byteorder != "little":
        return False
    program = _program(machine)
    instructions = ctypes.create_string_buffer(program)
    filter_ = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0) == 0)


def _program(machine: str) -> bytes:
    """The filter: other architectures kill, processes and foreign sockets are refused, and all that is named."""
    refuse, special = REFUSE | errno.EPERM, LOOKED_AT[machine]
    refused = {int(word) for word in REFUSED[machine].split()[1::2]}
    lines = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (EQUAL, 1, 0, AUDIT_ARCHITECTURE[machine]),
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
