"""A laboratory of network namespaces: hosts that run the network process, guests on their taps, a world outside."""

import contextlib
import ctypes
import fcntl
import itertools
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.errors import NoAnswer
from agent.paths import Paths
from network.agent import messages
from network.agent.client import NetworkProcess
from network.agent.netlink import Netlink
from network.agent.process import remove_all
from tests.network.agent import frames

ROOT = Path(__file__).resolve().parents[3]
NOBODY = 65534
SECONDS = 5.0  # for an answer, or until there is none
PATIENCE = 30.0  # for what has to become true
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


def new_id() -> str:
    return str(uuid.uuid4())


def wait_for(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
    return found


@contextlib.contextmanager
def inside(path: str) -> Iterator[None]:
    """Be in the network namespace of this file with this thread."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    assert _libc.setns(there, 0) == 0
    os.close(there)
    try:
        yield
    finally:
        assert _libc.setns(before, 0) == 0
        os.close(before)


class Space:
    """A network namespace with a mount namespace of its own, held by a process that sleeps."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "--net", "--mount", "sleep", "infinity"])
        wait_for(lambda: Path(f"/proc/{self._holder.pid}/comm").read_text().strip() == "sleep")
        self.enter = ["nsenter", "--net", "--mount", "--target", str(self._holder.pid)]
        self.file = os.open(f"/proc/{self._holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        with self.within(), Netlink() as kernel:
            kernel.send(messages.change_link(1, up=True))

    @contextlib.contextmanager
    def within(self) -> Iterator[None]:
        """Be there with this thread."""
        with inside(f"/proc/self/fd/{self.file}"):
            yield

    def run(self, *command: str) -> str:
        return subprocess.run([*self.enter, *command], check=True, capture_output=True, text=True).stdout

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
        os.close(self.file)


class Host(Space):
    """A host: its own network, and the network process in it, as root or as an ordinary user."""

    def __init__(self, directory: Path, uid: int = 0, **settings: str) -> None:
        super().__init__()
        self.id = new_id()
        self.settings = settings
        self.uid = uid
        self.runtime = directory
        self.runtime.mkdir(mode=0o755, exist_ok=True)
        if uid:
            os.chown(self.runtime, uid, uid)
            tun = directory.parent / f"{directory.name}-tun"  # elsewhere udev opens it to everybody
            os.mknod(tun, 0o666 | 0o020000, os.makedev(10, 200))
            tun.chmod(0o666)
            self.run("mount", "--bind", str(tun), "/dev/net/tun")
        self.paths = Paths(home=self.runtime, runtime=self.runtime)
        self.client = NetworkProcess(self.paths)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, *within: str) -> None:
        """Start the network process, inside another command if need be, and wait until it answers."""
        become = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--"] if self.uid else []
        self._process = subprocess.Popen([*self.enter, *become, *within, *self.command], env=self.environment)

        def answers() -> bool:
            assert self._process
            assert self._process.poll() is None, "the network process has ended"
            with contextlib.suppress(NoAnswer):
                return bool(self.client.capabilities())
            return False

        wait_for(answers)

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "agent.cli", "--home", str(self.runtime), "network"]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PILEUS_RUNTIME_DIR": str(self.runtime), "PYTHONPATH": str(ROOT)} | self.settings

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self._process
        self._process.send_signal(number)
        self._process.wait(PATIENCE)

    def apply(self, spec: dict[str, Any], type: str = "network") -> dict[str, str]:
        return self.client.apply(type, spec["id"], next(_numbers), spec)

    def guest(self, spec: dict[str, Any], name: str) -> "Guest":
        port = next(port for port in spec["ports"] if port["name"] == name)
        guest = Guest(self.client.plug(port["id"], headers=False), port)
        guest.wait_until_connected()
        return guest

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            self.stop(signal.SIGKILL)
        with self.within():
            remove_all(self.paths)
        super().close()


class Guest:
    """A guest that says whatever a test wants, on its port's tap."""

    def __init__(self, tap: int, port: dict[str, Any]) -> None:
        self.tap = tap
        self.id = port["id"]
        self.mac = port["mac"]
        self.ips = [each["address"] for each in port["addresses"]]
        self.ip = self.ips[0]
        self._poll = select.poll()
        self._poll.register(tap, select.POLLIN)

    def send(self, frame: bytes) -> None:
        os.write(self.tap, frame)

    def receive(self, wanted: Callable[[bytes], bool], seconds: float = SECONDS) -> bytes | None:
        """The next frame that is wanted; the others are lost."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._poll.poll(left * 1000):
                with contextlib.suppress(BlockingIOError):
                    frame = os.read(self.tap, 70000)
                    if wanted(frame):
                        return frame
        return None

    def wait_until_connected(self) -> None:
        """The kernel takes a moment to open a bridge's port; then the network itself answers."""
        question = frames.arp(self.mac, self.ips[0] if "." in self.ips[0] else "0.0.0.0", "169.254.169.254")

        def answered() -> bool:
            self.send(question)
            return self.receive(lambda frame: frame[12:14] == b"\x08\x06", 0.02) is not None

        wait_for(answered)
        while self.receive(lambda _: True, 0.002):
            pass

    def hears(self, sender: "Guest", frame: bytes) -> bool:
        """Whether a frame that `sender` sends arrives here: it is followed by one that surely does."""
        marker = frames.arp(sender.mac, sender.ip, f"10.255.{next(_numbers) % 256}.{next(_numbers) % 256}", to=self.mac)
        sender.send(frame)
        sender.send(marker)
        seen = self.receive(lambda heard: heard in (frame, marker))
        assert seen, "not even what may pass arrived"
        return seen == frame

    def close(self) -> None:
        os.close(self.tap)


def open_tap(name: str) -> int:
    """A tap in the present network namespace, as a program that is a guest has it."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x0002 | 0x1000))
    return descriptor


class Machine(Space):
    """A guest with the kernel's own network stack: its device is wired to a tap, frame by frame."""

    def __init__(self, guest: Guest, prefix: int = 24, gateway: str = "", mtu: int = 1500) -> None:
        super().__init__()
        with self.within():
            self._device = open_tap("eth0")
        self.run("ip", "link", "set", "eth0", "address", guest.mac, "mtu", str(mtu), "up")
        self.run("ip", "addr", "add", f"{guest.ip}/{prefix}", "dev", "eth0")
        if gateway:
            self.run("ip", "route", "add", "default", "via", gateway)
        self.guest = guest
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._wire, daemon=True)
        self._thread.start()

    def _wire(self) -> None:
        poll = select.poll()
        ends = {self._device: self.guest.tap, self.guest.tap: self._device}
        for end in (*ends, self._stop):
            poll.register(end, select.POLLIN)
        while True:
            for end, _ in poll.poll():
                if end == self._stop:
                    return
                with contextlib.suppress(OSError):
                    os.write(ends[end], os.read(end, 70000))

    def listen(self, port: int) -> socket.socket:
        with self.within():
            return socket.create_server(("", port))

    def connect(self, address: str, port: int, seconds: float = 2.0) -> socket.socket:
        with self.within():
            return socket.create_connection((address, port), timeout=seconds)

    def pings(self, address: str) -> bool:
        with self.within(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as probe:
            probe.settimeout(2)
            probe.sendto(frames.ping(self.guest.mac, self.guest.mac, self.guest.ip, address)[34:], (address, 0))
            with contextlib.suppress(TimeoutError):
                return probe.recvfrom(100)[1][0] == address
            return False

    def close(self) -> None:
        os.write(self._stopped, b"x")
        self._thread.join()
        for descriptor in (self._device, self._stop, self._stopped):
            os.close(descriptor)
        super().close()


def wire(one: Space, name: str, other: Space, other_name: str) -> None:
    """A cable between two spaces, up at both ends."""
    with one.within(), Netlink() as kernel:
        kernel.send(messages.add_veth(name, "", 1500, peer=other_name, peer_namespace=other.file))
        kernel.send(messages.change_link(kernel.links()[name].index, up=True))
    with other.within(), Netlink() as kernel:
        kernel.send(messages.change_link(kernel.links()[other_name].index, up=True))


def network(
    host: Host | None = None,
    *,
    cidr: str = "10.0.0.0/24",
    cidr6: str = "",
    rules: list[dict[str, Any]] | None = None,
    **ports: str,
) -> dict[str, Any]:
    """The spec of a network with ports by name, in one group: everything may go out, and in what the rules say."""
    group, subnet = new_id(), new_id()
    outward = [{"direction": "egress", "family": family, "protocol": None, "remote": None} for family in (4, 6)]
    gateway = cidr.rsplit(".", 1)[0] + ".1"
    spec: dict[str, Any] = {
        "id": new_id(),
        "network": {
            "id": new_id(), "name": "default", "project": {"id": new_id(), "name": "demo"},
            "vni": next(_numbers), "mtu": 1500, "domain": "default.demo.internal",
        },
        "subnets": [
            {"id": subnet, "cidr": cidr, "gateway": gateway, "dns": [], "routes": [], "dhcp": True}
        ],
        "ports": [],
        "groups": {group: {"rules": [*outward, *(rules or [])], "members": []}},
        "peers": [],
        "host": host.id if host else "here",
    }  # fmt: skip
    if cidr6:
        gateway6 = f"{cidr6.partition('/')[0]}1"
        subnet6 = {"id": new_id(), "cidr": cidr6, "gateway": gateway6, "dns": [], "routes": [], "dhcp": True}
        spec["subnets"].append(subnet6)
    for name, addresses in ports.items():
        add_port(spec, name, addresses, groups=[group])
    return spec


def add_port(spec: dict[str, Any], name: str, addresses: str, groups: list[str], host: str = "") -> dict[str, Any]:
    number = next(_numbers)
    port = {
        "id": new_id(),
        "mac": f"52:54:00:00:{number >> 8 & 255:02x}:{number & 255:02x}",
        "addresses": [
            {"address": each, "subnet": spec["subnets"][-1 if ":" in each else 0]["id"]} for each in addresses.split()
        ],
        "security_groups": groups,
        "allowed_pairs": [],
        "host": host or spec["host"],
        "name": name,
    }
    spec["ports"].append(port)
    for group in groups:
        spec["groups"][group]["members"] += addresses.split()
    return port


def ingress(
    protocol: str | int | None = None, low: int | None = None, high: int | None = None, **more: Any
) -> dict[str, Any]:
    """A rule that lets something in, from everywhere if it says nothing else."""
    rule = {"direction": "ingress", "family": 4, "protocol": protocol, "port_min": low, "port_max": high}
    return rule | {"icmp_type": None, "icmp_code": None, "remote": None} | more


def router(
    *legs: tuple[dict[str, Any], str], external: bool = False, forwards: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The spec of a router with legs in networks, each with its address there."""
    return {
        "id": new_id(),
        "router": {"id": new_id(), "name": "default", "snat": True},
        "legs": [
            {"network": spec["network"]["id"], "subnet": spec["subnets"][0]["id"], "address": address}
            for spec, address in legs
        ],
        "routes": [],
        "external": external,
        "floating_ips": [],
        "forwards": forwards or [],
    }  # fmt: skip


def floating_ip(address: str, to: str) -> dict[str, str]:
    """An address outside that leads to a guest's."""
    return {"id": new_id(), "address": address, "to": to}


def forward(
    spec: dict[str, Any], listen: int, address: str, port: int, protocol: str = "tcp", at: str = "127.0.0.1"
) -> dict[str, Any]:
    """A port of an address, of the loopback if none is given, that leads to an address of a network."""
    return {
        "id": new_id(),
        "protocol": protocol,
        "listen": {"address": at, "port": listen},
        "to": {"address": address, "port": port, "network": spec["network"]["id"]},
    }
