"""nftables by libnftables (Debian: libnftables1): rulesets as values, read from the kernel and changed by differences.

Rules are compared by a digest, which the first rule of each chain carries as its comment: their text as the kernel
lists it differs from what was loaded. Sets and maps are compared element by element.
"""

import ctypes
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

OUTPUT_JSON, OUTPUT_PROTOCOLS_AS_NUMBERS = 1 << 4, 1 << 7
DIGEST = "digest "
MAX_ELEMENTS_AT_ONCE = 200  # in one command

Elements = frozenset[tuple[str, ...]]


class Refused(Exception):
    """The kernel or libnftables did not take a command; the words are theirs."""


@dataclass(frozen=True)
class Set:
    """`type` is the definition in nft's words. Of a map, the last part of each element is its value. `is_kernels`: what
    is in it is the kernel's affair, by rules."""

    type: str
    elements: Elements = frozenset()
    is_map: bool = False
    is_kernels: bool = False


@dataclass(frozen=True)
class Chain:
    """`hook`: where the kernel calls it, in nft's words; "": only other chains do."""

    rules: tuple[str, ...]
    hook: str = ""

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256("\n".join((self.hook, *self.rules)).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Table:
    """A wanted table. `family` and `name` as in `table bridge pileus`; `limits` by name, in nft's words."""

    family: str
    name: str
    sets: dict[str, Set] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)


@dataclass
class Known:
    """What the kernel has of a table: elements of sets, digests of chains, names of limits."""

    there: bool = False
    sets: dict[str, Elements] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    limits: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Difference:
    """`commands` make the kernel's table the wanted one, in one transaction. `revokes`: less may pass afterwards."""

    commands: tuple[str, ...]
    revokes: bool


def difference(known: Known, wanted: Table) -> Difference:
    """Pure. Chains that are called come before those that call them, additions before what needs them."""
    table = f"{wanted.family} {wanted.name}"
    lines, late = [f"add table {table}"] if not known.there else [], []
    for name in wanted.sets.keys() - known.sets.keys():
        kind = "map" if wanted.sets[name].is_map else "set"
        lines.append(f"add {kind} {table} {name} {{ {wanted.sets[name].type} ; }}")
    lines += [
        f"add limit {table} {name} {{ {wanted.limits[name]} ; }}"
        for name in sorted(wanted.limits.keys() - known.limits)
    ]
    new = [name for name in wanted.chains if name not in known.digests]
    for name in new:
        hook = wanted.chains[name].hook
        lines.append(f"add chain {table} {name}" + (f" {{ {hook} ; }}" if hook else ""))
    changed = [name for name, chain in wanted.chains.items() if known.digests.get(name) != chain.digest]
    for name in changed:
        chain = wanted.chains[name]
        lines += [f"flush chain {table} {name}"] if name in known.digests else []
        lines.append(f'add rule {table} {name} counter comment "{DIGEST}{chain.digest}"')
        lines += [f"add rule {table} {name} {rule}" for rule in chain.rules]
    revokes = any(name in known.digests for name in changed)
    for name, wanted_set in wanted.sets.items():
        present = known.sets.get(name, frozenset())
        if wanted_set.is_kernels or present is wanted_set.elements or present == wanted_set.elements:
            continue
        gone, added = present - wanted_set.elements, wanted_set.elements - present
        revokes = revokes or bool(gone)
        lines += _elements("delete", table, name, gone, wanted_set.is_map)
        lines += _elements("add", table, name, added, wanted_set.is_map)
    for name in known.digests.keys() - wanted.chains.keys():
        lines.append(f"flush chain {table} {name}")
        late.append(f"delete chain {table} {name}")
    late += [f"delete set {table} {name}" for name in known.sets.keys() - wanted.sets.keys()]
    late += [f"delete limit {table} {name}" for name in sorted(known.limits - wanted.limits.keys())]
    return Difference((*lines, *late), revokes)


def _elements(verb: str, table: str, name: str, elements: Iterable[tuple[str, ...]], is_map: bool) -> list[str]:
    written = [
        " . ".join(element[:-1]) + (f" : {element[-1]}" if verb == "add" else "") if is_map else " . ".join(element)
        for element in sorted(elements)
    ]
    parts = [written[at : at + MAX_ELEMENTS_AT_ONCE] for at in range(0, len(written), MAX_ELEMENTS_AT_ONCE)]
    return [f"{verb} element {table} {name} {{ {', '.join(part)} }}" for part in parts]


def apply(change: Difference) -> None:
    """Make a change. What is too large for an ordinary user's netlink socket is made command by command, in order."""
    if not change.commands:
        return
    try:
        run("\n".join(change.commands))
    except Refused as refusal:
        if "Message too long" not in str(refusal):
            raise
        for command in change.commands:
            run(command)


def run(script: str) -> str:
    """Run commands as one transaction in the present network namespace; gives back what they print, as JSON."""
    library = _library()
    context = library.nft_ctx_new(0)
    if not context:
        raise Refused("libnftables has no memory")
    try:
        library.nft_ctx_output_set_flags(context, OUTPUT_JSON | OUTPUT_PROTOCOLS_AS_NUMBERS)
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        if library.nft_run_cmd_from_buffer(context, script.encode()) != 0:
            raise Refused(library.nft_ctx_get_error_buffer(context).decode(errors="replace").strip())
        return str(library.nft_ctx_get_output_buffer(context).decode())
    finally:
        library.nft_ctx_free(context)


def read(table: Table) -> Known:
    """What the present namespace has of a table."""
    try:
        listed = json.loads(run(f"list table {table.family} {table.name}"))["nftables"]
    except Refused as refusal:
        if "No such file" in str(refusal):
            return Known()
        raise
    known = Known(there=True)
    for item in listed:
        for kind, value in item.items():
            if kind in ("set", "map"):
                known.sets[value["name"]] = frozenset(_element(each) for each in value.get("elem", ()))
            elif kind == "limit":
                known.limits.add(value["name"])
            elif kind == "chain":
                known.digests.setdefault(value["name"], "")
            elif kind == "rule" and str(value.get("comment", "")).startswith(DIGEST):
                known.digests[value["chain"]] = value["comment"].removeprefix(DIGEST)
    return known


class Rulesets:
    """Tables as this process left them in the kernel: each is read back once, and known from then on."""

    def __init__(self) -> None:
        self._known: dict[str, dict[tuple[str, str], Known]] = {}  # by namespace

    def apply(self, namespace: str, table: Table) -> bool:
        """Make the table of the present namespace, whose name is given, the wanted one; whether less may pass now."""
        tables = self._known.setdefault(namespace, {})
        known = tables.pop((table.family, table.name), None)
        change = difference(known or read(table), table)
        apply(change)
        sets = {name: each.elements for name, each in table.sets.items()}
        digests = {name: chain.digest for name, chain in table.chains.items()}
        tables[table.family, table.name] = Known(True, sets, digests, set(table.limits))
        return change.revokes

    def forget(self, namespace: str) -> None:
        """The namespace is gone."""
        self._known.pop(namespace, None)


def available() -> str:
    """ "" when libnftables is there, otherwise what to do."""
    try:
        _library()
    except OSError:
        return "libnftables is not installed (Debian: sudo apt install libnftables1)"
    return ""


_loaded: ctypes.CDLL | None = None


def _library() -> ctypes.CDLL:
    global _loaded  # noqa: PLW0603
    if _loaded is None:
        library = ctypes.CDLL("libnftables.so.1")
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for name in ("free", "buffer_output", "buffer_error", "get_output_buffer", "get_error_buffer"):
            getattr(library, f"nft_ctx_{name}").argtypes = [ctypes.c_void_p]
        for name in ("get_output_buffer", "get_error_buffer"):
            getattr(library, f"nft_ctx_{name}").restype = ctypes.c_char_p
        _loaded = library
    return _loaded


def _element(value: Any) -> tuple[str, ...]:
    """An element as JSON tells it, in the form in which it was wanted."""
    if isinstance(value, list):  # of a map: key and value
        return (*_element(value[0]), " . ".join(_element(value[1])))
    if isinstance(value, dict):
        if "elem" in value:
            return _element(value["elem"]["val"])
        if "concat" in value:
            return tuple(part for each in value["concat"] for part in _element(each))
        if "prefix" in value:
            return (f"{value['prefix']['addr']}/{value['prefix']['len']}",)
        if "range" in value:
            return ("-".join(str(end) for end in value["range"]),)
        if "goto" in value:
            return (f"goto {value['goto']['target']}",)
    return (str(value),)
