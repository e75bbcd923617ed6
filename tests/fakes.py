"""The fake hypervisor, and a node around it that works in the test's own process.

Only the hypervisor is faked: orders, ledger, locks, reports and the rest of the agent are the real ones. A fake machine
is a small JSON file, so it outlives a killed worker just as an emulator does, and tells how often it was started.

    node = FakeNode.join(request, token=secret, name="node1", home=tmp_path)
    node.look()                                  # claim → obey → report, once
    node.hypervisor.crash(instance_id)           # the emulator dies
    node.look()

`request(method, path, json, token) → (status, json)` is how the node talks to the control plane: see `django_request`.
"""

import hashlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from agent.control_plane import ControlPlane
from agent.entries import Entry
from agent.errors import NoAnswer, Refused, Unreachable
from agent.host import Host
from agent.kinds import Tools
from agent.ledger import Ledger
from agent.paths import Paths
from agent.processes import Process
from compute.agent.disks import BASE, Disk, Layer, Limits
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Boot, Counters, Plugged, PluggedDisk, Power, Status
from compute.agent.kinds import Machines
from compute.agent.machine import Machine
from compute.agent.nics import Nic
from compute.agent.records import Record, key
from storage.hardware import DISK_BUSES, NIC_BUSES

Request = Callable[[str, str, Any, str], tuple[int, Any]]
CAPACITY = {"vcpus": 8, "memory_mib": 16384, "disk_gib": 200}


class FakeProcess(Process):
    """An emulator that is nothing but an entry in the fake's files."""

    file: Path

    @classmethod
    def of(cls, file: Path, pid: int) -> "FakeProcess":
        process = cls(pid, 0)
        object.__setattr__(process, "file", file)
        return process

    __hash__ = Process.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Process) and (other.pid, other.started) == (self.pid, self.started)

    @property
    def alive(self) -> bool:
        return bool(_read(self.file).get("pid") == self.pid)

    @property
    def started_at(self) -> float:
        return float(_read(self.file).get("started_at", 0.0))

    def kill(self) -> None:
        _write(self.file, pid=None)

    def wait(self, seconds: float) -> bool:
        return not self.alive


class FakeSlots:
    """What is plugged into a fake machine: `disks` and `nics` in its file."""

    def __init__(self, fake: "FakeHypervisor", file: Path) -> None:
        self.fake, self.file = fake, file

    def look(self) -> Plugged:
        machine = _read(self.file)
        disks = {
            int(slot): PluggedDisk(**{**disk, "layers": frozenset(disk["layers"])}, limits=Limits())
            for slot, disk in machine.get("disks", {}).items()
        }
        nics = {int(slot): mac for slot, mac in machine.get("nics", {}).items()}
        return Plugged(disks, nics, cd=machine.get("cd"))

    def change_cd(self, cd: Disk | None) -> None:
        _write(self.file, cd=cd.layers[-1].name if cd else "")

    def plug_disk(self, disk: Disk) -> None:
        self._change("disks", {str(disk.slot): _plugged(disk)})

    def unplug_disk(self, slot: int) -> None:
        self._drop("disks", slot)

    def put_layer_over(self, slot: int, layer: Layer) -> None:
        disk = _read(self.file)["disks"][str(slot)]
        layers = [*disk["layers"], layer.name]
        self._change("disks", {str(slot): disk | {"active": layer.name, "layers": layers}})

    def stand_on(self, disk: Disk) -> None:
        there = _read(self.file)["disks"][str(disk.slot)]
        self._change("disks", {str(disk.slot): there | {"layers": _plugged(disk)["layers"]}})

    def grow_disk(self, slot: int, size_bytes: int, layer: Layer | None = None) -> None:
        disk = _read(self.file)["disks"][str(slot)]
        self._change("disks", {str(slot): disk | {"size_bytes": size_bytes}})

    def limit_disk(self, slot: int, limits: Limits) -> None: ...

    def plug_nic(self, nic: Nic, hostname: str) -> None:
        self._change("nics", {str(nic.slot): nic.mac})

    def unplug_nic(self, slot: int) -> None:
        self._drop("nics", slot)

    def _change(self, kind: str, more: dict[str, Any]) -> None:
        _write(self.file, **{kind: _read(self.file)[kind] | more})

    def _drop(self, kind: str, slot: int) -> None:
        if self.fake.clings:
            raise Refused(self.fake.clings)
        _write(self.file, **{kind: {key: value for key, value in _read(self.file)[kind].items() if key != str(slot)}})


def _plugged(disk: Disk) -> dict[str, Any]:
    layers = [layer.name for layer in disk.layers if layer.name != BASE]
    return {"serial": disk.serial, "active": layers[-1], "size_bytes": disk.size_bytes, "layers": layers}


class FakeControl:
    """The verbs of a fake machine."""

    def __init__(self, fake: "FakeHypervisor", file: Path) -> None:
        self.fake, self.file = fake, file

    @property
    def slots(self) -> FakeSlots | None:
        return FakeSlots(self.fake, self.file) if "plug" in self.fake.verbs else None

    def status(self) -> Status:
        machine = _read(self.file)
        if machine.get("pid") is None:
            raise NoAnswer("the fake emulator has ended")
        return Status(Power(machine["power"]), machine.get("problem", ""), bool(machine.get("curable")))

    def guest_listens(self) -> bool:
        return bool(_read(self.file).get("guest_listens"))

    def press_power_button(self) -> None:
        if not self.fake.deaf:
            _write(self.file, power="off")

    def reset(self) -> None:
        _write(self.file, power="running", resets=_read(self.file).get("resets", 0) + 1)

    def pause(self) -> None:
        _write(self.file, power="paused")

    def resume(self) -> None:
        _write(self.file, power="running", problem="", curable=False)

    def save(self, directory: Path, uid: int | None) -> None:
        assert _read(self.file)["power"] == "paused", "a machine that runs cannot be saved"
        if self.fake.unsavable:
            raise NoAnswer(self.fake.unsavable)
        (directory / "state").write_text(str(_read(self.file)["starts"]))

    def quit(self) -> None:
        _write(self.file, pid=None)


class FakeHypervisor:
    """Hypervisor that runs nothing. Tell it to fail by its attributes; ask it what happened by its methods."""

    takes_headers = True

    def __init__(self, state: Path, name: str = "qemu", architectures: tuple[str, ...] = ("x86_64",)) -> None:
        self.name = name
        self.architectures = architectures
        self.broken = ""  # why the next starts fail
        self.slow = 0.0  # seconds that a start takes
        self.unsavable = ""  # why machines cannot be suspended
        self.verbs = ["pause", "suspend", "clone", "plug", "layers", "cd"]
        self.hardware = sorted({"q35", "pc", "virt", "bios", "uefi", *DISK_BUSES["pc"], *NIC_BUSES["pc"]})
        self.clings = ""  # why guests do not let go of what is to be unplugged
        self.deaf = False  # guests do not hear their power button
        self.mute = False  # emulators do not answer on their control socket
        self._state = state
        state.mkdir(parents=True, exist_ok=True)

    # What the agent calls

    def probe(self) -> dict[str, Any] | None:
        kinds = {
            name: {"accelerator": "tcg", "kvm": "this is a fake", "hardware": self.hardware}
            for name in self.architectures
        }
        return {"version": "fake", "architectures": kinds, "verbs": self.verbs}

    def probe_accelerators(self) -> bool:
        return False

    def overhead_mib(self, spec: dict[str, Any]) -> int:
        return 0

    def groups(self) -> tuple[int, ...]:
        return ()

    def accelerator(self, spec: dict[str, Any]) -> str:
        return "tcg"

    def check(self, spec: dict[str, Any], files: Mapping[str, Path]) -> None: ...

    def start(self, boot: Boot) -> Process:
        time.sleep(self.slow)
        if self.broken:
            raise Refused(self.broken)
        file = self._file(boot.home)
        machine = _read(file)
        if machine.get("pid") is not None:
            raise AssertionError(f"{boot.spec['name']} was started a second time while it ran")
        starts = machine.get("starts", 0) + 1
        pid = 5_000_000 + starts  # above the highest that Linux gives to a process
        power, went_on = ("paused", machine.get("went_on", 0) + 1) if boot.saved else ("running", 0)
        no_cd = "" if boot.spec.get("cd_drive") else None
        told = {
            "is_clone": boot.is_clone,
            "spec": boot.spec,
            "started_at": time.time(),
            "problem": "",
            "guest_listens": False,
            "went_on": went_on,
            "disks": {str(disk.slot): _plugged(disk) for disk in boot.disks if not disk.is_cdrom},
            "nics": {str(nic.slot): nic.mac for nic in boot.nics},
            "cd": next((disk.layers[-1].name for disk in boot.disks if disk.is_cdrom), no_cd),
        }
        _write(file, pid=pid, power=power, starts=starts, **told)
        return FakeProcess.of(file, pid)

    def find(self, home: Home) -> Process | None:
        file = self._file(home)
        pid = _read(file).get("pid")
        return FakeProcess.of(file, pid) if pid is not None else None

    @contextmanager
    def control(self, home: Home) -> Iterator[FakeControl]:
        if self.mute or _read(self._file(home)).get("pid") is None:
            raise NoAnswer("the fake emulator does not answer")
        yield FakeControl(self, self._file(home))

    def events(self, home: Home) -> None:
        return None

    def counters(self, home: Home) -> Counters:
        return Counters()

    # What tests call

    def running(self) -> set[str]:
        """Ids of the machines whose emulator lives."""
        return {file.stem for file in self._state.glob("*.json") if _read(file).get("pid") is not None}

    def starts(self, machine_id: str) -> int:
        """How often a machine's emulator was started."""
        return int(_read(self._state / f"{machine_id}.json").get("starts", 0))

    def went_on(self, machine_id: str) -> int:
        """How often a machine has gone on from where it was suspended, since it last booted."""
        return int(_read(self._state / f"{machine_id}.json").get("went_on", 0))

    def is_clone(self, machine_id: str) -> bool:
        """Whether a machine has gone on as somebody else."""
        return bool(_read(self._state / f"{machine_id}.json").get("is_clone"))

    def resets(self, machine_id: str) -> int:
        return int(_read(self._state / f"{machine_id}.json").get("resets", 0))

    def spec(self, machine_id: str) -> dict[str, Any]:
        """What it was last started with."""
        return dict(_read(self._state / f"{machine_id}.json")["spec"])

    def nics(self, machine_id: str) -> dict[int, str]:
        """MAC addresses of what is plugged in, by slot."""
        return {int(slot): mac for slot, mac in _read(self._state / f"{machine_id}.json")["nics"].items()}

    def cd(self, machine_id: str) -> str | None:
        """The name of what is in its CD drive; None: it has none."""
        found: str | None = _read(self._state / f"{machine_id}.json")["cd"]
        return found

    def disks(self, machine_id: str) -> dict[int, str]:
        """Serials of what is plugged in, by slot."""
        disks = _read(self._state / f"{machine_id}.json")["disks"]
        return {int(slot): disk["serial"] for slot, disk in disks.items()}

    def crash(self, machine_id: str) -> None:
        """The emulator dies."""
        _write(self._state / f"{machine_id}.json", pid=None)

    def power_off(self, machine_id: str) -> None:
        """The guest switches itself off."""
        _write(self._state / f"{machine_id}.json", power="off")

    def open_channel(self, machine_id: str, *, opened: bool = True) -> None:
        """A program in the guest opens the channel to its agent, or closes it: see tests.guest_agents."""
        _write(self._state / f"{machine_id}.json", guest_listens=opened)

    def fill_disk(self, machine_id: str) -> None:
        """The emulator pauses because the host's disk is full."""
        _write(
            self._state / f"{machine_id}.json", power="paused", problem="paused: the host's disk is full", curable=True
        )

    def _file(self, home: Home) -> Path:
        return self._state / f"{home.directory.name}.json"


class ComputeHost(Host):
    """A host with machines, and short ways to what tests ask about one."""

    def __init__(self, tools: Tools, machines: Machines) -> None:
        tools.add(machines)
        self.machines = machines
        super().__init__(tools)

    def machine(self, machine_id: str) -> Machine:
        return self.machines.machine(machine_id)

    def home(self, machine_id: str) -> Home:
        return self.machines.homes.of(machine_id)

    def entry(self, machine_id: str) -> Entry:
        """The machine's page in the ledger."""
        entry = self.ledger.get(key(machine_id))
        assert entry is not None
        return entry

    def record(self, machine_id: str) -> Record:
        return self.machines.tools.records.get(machine_id)

    def switch_off(self, machine_id: str) -> bool:
        """As `pileus-agent stop-all` does."""
        return self.interrupt(self.entry(machine_id), grace=1)


class FakeNode(ComputeHost):
    """A host in the test's own process, with the fake hypervisor and everything else real."""

    hypervisor: FakeHypervisor

    def __init__(
        self, request: Request, home: Path, *, token: str = "", capacity: dict[str, int] | None = None
    ) -> None:
        self.token = token
        self.online = True  # False: the control plane cannot be reached
        self.fixed_capacity = capacity or CAPACITY
        paths = Paths(home / "agent", home / "run")
        paths.make()
        self.hypervisor = FakeHypervisor(home / "fake")
        control_plane = ControlPlane("http://control-plane.test", transport=httpx.MockTransport(self._handle))
        self._request = request
        tools = Tools(paths, Ledger(paths.ledger), control_plane)
        super().__init__(tools, Machines(tools, {self.hypervisor.name: self.hypervisor}))

    @classmethod
    def join(
        cls, request: Request, *, token: str, name: str, home: Path, capacity: dict[str, int] | None = None
    ) -> "FakeNode":
        """Join with a one-time token."""
        node = cls(request, home, capacity=capacity)
        member = node.control_plane.join(
            token=token, name=name, capacity=node.capacity(), capabilities=node.capabilities()
        )
        node.token = member.token
        return node

    def capacity(self) -> dict[str, Any]:
        return dict(self.fixed_capacity)

    def look(self) -> int:
        """All that a worker's clock does, once, in order: notice, claim, obey, report. How many orders there were."""
        self.notice_all(thoroughly=True)
        self.send_reports()
        claimed = super().look()
        self.send_reports()
        self.revive()
        self.send_reports()
        return claimed

    def look_once(self) -> None:
        self.look()

    def restart(self) -> "FakeNode":
        """The worker was killed; this is the next one on the same host, with the machines as they are."""
        node = FakeNode(self._request, self.paths.home.parent, token=self.token, capacity=self.fixed_capacity)
        node.quarantine_strangers()
        return node

    def _handle(self, request: httpx.Request) -> httpx.Response:
        if not self.online:
            raise httpx.ConnectError("the control plane cannot be reached")
        path = request.url.raw_path.decode()
        content = request.read()
        is_json = request.headers.get("content-type") == "application/json"
        offset = request.headers.get("x-log-offset")
        body = json.loads(content) if is_json else (int(offset), content) if offset else content or None
        status, answer = self._request(request.method, path, body, self.token)
        if isinstance(answer, bytes):
            return httpx.Response(status, content=answer)
        return httpx.Response(status, json=answer)


def over_http(url: str) -> Request:
    """A FakeNode's way to a control plane in another process."""

    def request(method: str, path: str, body: Any, token: str) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        asked = urllib.request.Request(url + path, json.dumps(body).encode(), headers, method=method)
        try:
            with urllib.request.urlopen(asked) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read())

    return request


def django_request(client: Any) -> Request:
    """How a FakeNode talks to Django in the same process: through a test client (django.test.Client or DRF's)."""

    def request(method: str, path: str, body: Any, token: str) -> tuple[int, Any]:
        headers = {"HTTP_AUTHORIZATION": f"Bearer {token}"} if token else {}
        if isinstance(body, tuple):  # the end of a console log, with its offset
            headers["HTTP_X_LOG_OFFSET"] = str(body[0])
            sent, kind = body[1], "application/octet-stream"
        elif isinstance(body, bytes):
            headers["HTTP_X_CONTENT_SHA256"] = hashlib.sha256(body).hexdigest()
            sent, kind = body, "application/octet-stream"
        else:
            sent, kind = json.dumps(body).encode(), "application/json"
        answer = client.generic(method, path, sent, content_type=kind, **headers)
        if answer.headers.get("Content-Type", "").startswith("application/octet-stream"):
            return answer.status_code, b"".join(answer.streaming_content) if answer.streaming else answer.content
        return answer.status_code, json.loads(answer.content or b"{}")

    return request


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except FileNotFoundError:
        return {}


def _write(file: Path, **changes: Any) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps(_read(file) | changes))
    new.replace(file)


class RemoteNode(FakeNode):
    """A FakeNode whose control plane is at `url`."""

    def __init__(self, url: str, home: Path) -> None:
        super().__init__(over_http(url), home)


__all__ = ["FakeHypervisor", "FakeNode", "Unreachable", "django_request"]
