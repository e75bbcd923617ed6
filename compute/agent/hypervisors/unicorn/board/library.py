# SPDX-License-Identifier: GPL-2.0-or-later
"""The Unicorn library as its header declares it, as far as it is used here. Source: unicorn.h of the package.

The package's own binding is not imported: with the tables of ten architectures it takes 40 ms, half of the time in
which a process begins, and it keeps for itself the engine's handle and what a callback raised.
"""

import ctypes
import importlib.util
import os
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

OK = 0
RISCV, RISCV64 = 8, 8  # uc_arch, uc_mode
ALL = 7  # uc_prot
HOOK_EXCEPTIONS = 1 << 0  # uc_hook_type: UC_HOOK_INTR
REMOVE_TRANSLATIONS, FLUSH_TRANSLATIONS, FLUSH_ADDRESSES, BUFFER_SIZE = 9, 10, 11, 13  # uc_control_type
CTL_WRITE = 1 << 30  # UC_CTL_WRITE, with the number of arguments from bit 26 on

ReadCallback = ctypes.CFUNCTYPE(c_uint64, c_void_p, c_uint64, c_uint32, c_void_p)  # uc_cb_mmio_read_t
WriteCallback = ctypes.CFUNCTYPE(None, c_void_p, c_uint64, c_uint32, c_uint64, c_void_p)  # uc_cb_mmio_write_t
ExceptionCallback = ctypes.CFUNCTYPE(None, c_void_p, c_uint32, c_void_p)  # uc_cb_hookintr_t

ARGUMENTS: dict[str, list[Any]] = {
    "uc_close": [c_void_p],
    "uc_context_alloc": [c_void_p, POINTER(c_void_p)],
    "uc_context_free": [c_void_p],
    "uc_context_restore": [c_void_p, c_void_p],
    "uc_context_save": [c_void_p, c_void_p],
    "uc_context_size": [c_void_p],
    "uc_ctl": [c_void_p, c_int],
    "uc_emu_start": [c_void_p, c_uint64, c_uint64, c_uint64, c_size_t],
    "uc_emu_stop": [c_void_p],
    "uc_hook_add": [c_void_p, POINTER(c_size_t), c_int, c_void_p, c_void_p, c_uint64, c_uint64],
    "uc_mem_map_ptr": [c_void_p, c_uint64, c_uint64, c_uint32, c_void_p],
    "uc_mmio_map": [c_void_p, c_uint64, c_uint64, c_void_p, c_void_p, c_void_p, c_void_p],
    "uc_open": [c_uint32, c_uint32, POINTER(c_void_p)],
    "uc_reg_write": [c_void_p, c_int, c_void_p],
    "uc_reg_write_batch": [c_void_p, POINTER(c_int), POINTER(c_void_p), c_int],
    "uc_strerror": [c_int],
    "uc_version": [POINTER(c_int), POINTER(c_int)],
}
RESULTS = {"uc_context_size": c_size_t, "uc_strerror": c_char_p, "uc_version": c_uint32}  # else uc_err, an int


class EngineError(OSError):
    """What the library answered instead of doing it."""


def _package() -> str:
    """The package's directory, without importing it."""
    found = importlib.util.find_spec("unicorn")
    if found is None or not found.submodule_search_locations:
        raise ImportError("unicorn is not installed")
    return found.submodule_search_locations[0]


def _load(package: str) -> ctypes.CDLL:
    library = ctypes.CDLL(os.path.join(package, "lib", "libunicorn.so.2"))
    for name, arguments in ARGUMENTS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, RESULTS.get(name, c_int)
    return library


def _constants(package: str, name: str) -> Any:
    """One of the package's tables of constants, by itself."""
    spec = importlib.util.spec_from_file_location(name, os.path.join(package, f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"unicorn has no {name}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _version() -> str:
    word = unicorn.uc_version(None, None)
    return ".".join(str(word >> shift & 0xFF) for shift in (24, 16, 8))


def check(error: int) -> None:
    """Raises EngineError unless a call went well."""
    if error != OK:
        raise EngineError(error, f"Unicorn: {unicorn.uc_strerror(error).decode()}")


def control(handle: c_void_p, kind: int, *arguments: Any) -> None:
    """`uc_ctl`, whose arguments must be of the right C types. Raises EngineError."""
    check(unicorn.uc_ctl(handle, kind | len(arguments) << 26 | CTL_WRITE, *arguments))


unicorn = _load(_package())
registers = _constants(_package(), "riscv_const")  # UC_RISCV_REG_…
VERSION = _version()
