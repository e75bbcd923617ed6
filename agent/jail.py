"""The layers that confine an emulator: own user, no privileges, seccomp, own namespaces, limits, no shared folders.

Each layer is probed by using it, and listed in the host's capabilities; a missing one is a warning in the embedded mode
and otherwise a refusal to join.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import temporary
from agent.errors import Refused
from agent.paths import Paths
from agent.processes import Process

# systemd leaves 1879048192 to 2147483647 unused (its documentation "Users, Groups, UIDs and GIDs"): no account and no
# container uses them.
FIRST_UID = 1_900_000_000
UIDS = 61_376  # for machines; the rest of a block of 65 536 is for other confined programs
CGROUPS = Path("/sys/fs/cgroup")
V1_CONTROLLERS = ("memory", "cpu", "pids")
MAX_SECONDS_TO_REAP = 0.2
MAX_SECONDS_TO_RAISE = 10.0


@dataclass(frozen=True)
class Limits:
    """Limits for all processes of a machine together."""

    memory_mib: int
    cpus: float
    pids: int


@dataclass(frozen=True)
class Confinement:
    """How one emulator is confined. `uid` None: it runs as the agent's own user.

    `temporary`: the words before a command that give it temporary folders of its own. `file_bytes`: the size of the
    largest file that it may write; `for_good`: it cannot lift this limit itself.
    """

    uid: int | None = None
    drop_capabilities: bool = False
    own_namespaces: bool = False
    groups: tuple[int, ...] = ()
    cgroups: tuple[Path, ...] = ()
    temporary: tuple[str, ...] = ()
    file_bytes: int | None = None
    for_good: bool = False


@dataclass(frozen=True)
class Jail:
    """The ways in which this host can confine emulators."""

    uid: bool = False
    capabilities: bool = False
    namespaces: bool = False
    temporary: tuple[str, ...] = ()
    file_size: bool = False
    cgroup: str | None = None
    missing: dict[str, str] = field(default_factory=dict)

    def confine(
        self,
        uid: int | None,
        groups: tuple[int, ...] = (),
        cgroups: tuple[Path, ...] = (),
        file_bytes: int | None = None,
    ) -> Confinement:
        """A confinement with all available layers. `uid` is used where emulators can have their own users."""
        return Confinement(
            uid=uid if self.uid else None,
            drop_capabilities=self.capabilities,
            own_namespaces=self.namespaces,
            groups=groups,
            cgroups=cgroups,
            temporary=self.temporary,
            file_bytes=file_bytes,
            for_good=self.file_size,
        )

    def describe(self) -> dict[str, Any]:
        """The layers, for the host's capabilities; `missing` says why a layer is not available."""
        return {
            "uid": self.uid,
            "no_new_privileges": True,
            "capabilities": self.capabilities,
            "namespaces": self.namespaces,
            "private_temporary_folders": bool(self.temporary),
            "file_size_limit": self.file_size,
            "seccomp": True,
            "cgroup": self.cgroup,
            "missing": self.missing,
        }


def prefix(confinement: Confinement) -> list[str]:
    """The prlimit(1), unshare(1) and setpriv(1) commands that put a process into its confinement: a pure function."""
    argv = [] if confinement.file_bytes is None else ["prlimit", _file_limit(confinement), "--"]
    argv += ["unshare", "--net", "--ipc", "--uts", "--"] if confinement.own_namespaces else []
    argv += [*confinement.temporary, "setpriv", "--no-new-privs"]
    if confinement.drop_capabilities:
        argv += ["--bounding-set=-all", "--inh-caps=-all"]
    if confinement.uid is not None:
        argv += [f"--reuid={confinement.uid}", f"--regid={confinement.uid}"]
        groups = ",".join(str(group) for group in confinement.groups)
        argv += [f"--groups={groups}"] if groups else ["--clear-groups"]
    return [*argv, "--"]


def _file_limit(confinement: Confinement) -> str:
    """An argument of prlimit(1). With a colon at its end it leaves the hard limit alone."""
    return f"--fsize={confinement.file_bytes}" + ("" if confinement.for_good else ":")


def raise_file_limit(process: Process, confinement: Confinement) -> None:
    """Let a running emulator write files of `confinement.file_bytes`. A limit that is higher stays. Raises Refused.

    Without the capability for it the kernel asks for a process of the same user.
    """
    known = process.file_limit()
    if confinement.file_bytes is None or known is None or known >= confinement.file_bytes:
        return
    as_its_user = [] if confinement.for_good else prefix(Confinement(uid=confinement.uid, drop_capabilities=True))
    command = [*as_its_user, "prlimit", f"--pid={process.pid}", _file_limit(confinement)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=MAX_SECONDS_TO_RAISE)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise Refused("the limit of the emulator's files could not be raised: the host is too busy") from None
    if done.returncode != 0 and process.alive:
        raise Refused(f"the emulator may not write files as large as it needs to: {done.stderr.strip()[-300:]}")


def probe(paths: Paths) -> Jail:
    """Find out which layers work here, by using them."""
    missing: dict[str, str] = {}
    cgroup = _probe_cgroup(missing)
    own_folders = temporary.command(paths)
    if not _runs([*own_folders, *prefix(Confinement()), "true"]):
        own_folders, missing["private_temporary_folders"] = (), "unshare(1) and mount(8) may not make any here"
    if os.geteuid() != 0:
        layers = ("uid", "capabilities", "namespaces", "file_size_limit")
        missing |= dict.fromkeys(layers, "the agent does not run as root")
        return Jail(cgroup=cgroup, temporary=own_folders, missing=missing)
    uid = True
    for problem in (_probe_uid(), _probe_reach(paths)):
        if problem:
            uid, missing["uid"] = False, problem
    capabilities = _runs([*prefix(Confinement(drop_capabilities=True)), "true"])
    if not capabilities:
        missing["capabilities"] = "setpriv(1) may not drop them here"
    namespaces = _runs([*prefix(Confinement(own_namespaces=True)), "true"])
    if not namespaces:
        missing["namespaces"] = "unshare(1) may not make any here"
    file_size = _runs(["prlimit", "--fsize=4096", "--", "prlimit", "--fsize=8192", "--", "true"])
    if not file_size:
        missing["file_size_limit"] = "the agent may not raise it (CAP_SYS_RESOURCE), so an emulator may lift its own"
    return Jail(
        uid=uid,
        capabilities=capabilities,
        namespaces=namespaces,
        temporary=own_folders,
        file_size=file_size,
        cgroup=cgroup,
        missing=missing,
    )


def first_uid() -> int:
    return int(os.environ.get("PILEUS_AGENT_FIRST_UID", FIRST_UID))


def is_mapped(uid: int) -> bool:
    """Whether there is such a user here, as there may not be in a user namespace (user_namespaces(7))."""
    blocks = [[int(word) for word in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(first <= uid < first + count for first, _, count in blocks)


def _probe_uid() -> str | None:
    if _runs([*prefix(Confinement(uid=first_uid())), "true"]):
        return None
    return f"uid {first_uid()} cannot be used here (a user namespace without it?): set PILEUS_AGENT_FIRST_UID"


def _probe_reach(paths: Paths) -> str | None:
    """Whether another user can pass through all directories above the agent's."""
    for directory in (paths.home, paths.runtime):
        for parent in (directory, *directory.parents):
            if parent.exists() and not parent.stat().st_mode & 0o001:
                return f"{parent} is closed to other users, so an emulator's own user cannot reach its files"
    return None


def _runs(command: list[str]) -> bool:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, check=False, capture_output=True, timeout=5).returncode == 0  # noqa: S603
    return False


def _probe_cgroup(missing: dict[str, str]) -> str | None:
    for version in ("v2", "v1"):
        name = f"probe-{os.getpid()}"
        try:
            with contextlib.ExitStack() as undo:
                undo.callback(remove_cgroups, version, name)
                make_cgroups(version, name, Limits(memory_mib=64, cpus=1, pids=16))
        except OSError as error:
            missing["cgroup"] = f"{error.filename or error}: {error.strerror}"
        else:
            missing.pop("cgroup", None)
            return version
    return None


def cgroup_paths(version: str, name: str) -> tuple[Path, ...]:
    if version == "v2":
        return (CGROUPS / "pileus" / name,)
    return tuple(CGROUPS / controller / "pileus" / name for controller in V1_CONTROLLERS)


def make_cgroups(version: str, name: str, limits: Limits) -> tuple[Path, ...]:
    """Make a machine's cgroups and set its limits. Raises OSError."""
    paths = cgroup_paths(version, name)
    for path in paths:
        if not path.parent.parent.is_dir():
            raise FileNotFoundError(2, "not mounted", os.fspath(path.parent.parent))
    if version == "v2":
        parent = paths[0].parent
        controllers = (parent.parent / "cgroup.controllers").read_text().split()
        if not {"memory", "cpu", "pids"} <= set(controllers):
            raise OSError(95, "controllers memory, cpu and pids are not available", os.fspath(parent.parent))
        parent.mkdir(exist_ok=True)
        for directory in (parent.parent, parent):
            (directory / "cgroup.subtree_control").write_text("+memory +cpu +pids")
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
    for path, value in _limit_files(version, name, limits):
        path.write_text(value)
    return paths


def _limit_files(version: str, name: str, limits: Limits) -> Iterator[tuple[Path, str]]:
    memory, quota = limits.memory_mib << 20, int(limits.cpus * 100_000)
    if version == "v2":
        path = cgroup_paths(version, name)[0]
        yield path / "memory.max", str(memory)
        yield path / "cpu.max", f"{quota} 100000"
        yield path / "pids.max", str(limits.pids)
        return
    memory_path, cpu_path, pids_path = cgroup_paths(version, name)
    yield memory_path / "memory.limit_in_bytes", str(memory)
    yield cpu_path / "cpu.cfs_quota_us", str(quota)
    yield pids_path / "pids.max", str(limits.pids)


def remove_cgroups(version: str | None, name: str, patience: float = MAX_SECONDS_TO_REAP) -> bool:
    """Remove a machine's cgroups; returns whether they are gone. They stay until init has reaped its processes."""
    deadline = time.monotonic() + patience
    left = [path for path in (cgroup_paths(version, name) if version else ()) if path.exists()]
    while left:
        for path in list(left):
            with contextlib.suppress(OSError):
                path.rmdir()
                left.remove(path)
        if time.monotonic() >= deadline:
            break
        time.sleep(0.02)
    return not left


def kill_all(version: str | None, name: str) -> None:
    """Kill processes that an ended emulator left in its cgroups; its user cannot leave them."""
    for path in cgroup_paths(version, name) if version else ():
        with contextlib.suppress(OSError):
            for pid in (path / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)


def out_of_memory(version: str | None, name: str) -> bool:
    """Whether the kernel's OOM killer killed a process in this cgroup."""
    if version is None:
        return False
    path = cgroup_paths(version, name)[0]
    events = path / ("memory.events" if version == "v2" else "memory.oom_control")
    with contextlib.suppress(OSError):
        words = events.read_text().split()
        return int(dict(zip(words[::2], words[1::2], strict=False)).get("oom_kill", 0)) > 0
    return False
