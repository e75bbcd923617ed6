"""A Ceph cluster on this machine: one monitor, one manager and one OSD that keeps everything in its memory.

It needs no root, no systemd and no kernel module, is there in two seconds, and takes about 120 MiB.
"""

import json
import random
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POOL = "volumes"
SECONDS = 60.0
DAEMONS = {"mon": "a", "mgr": "x", "osd": "0"}
HOSTS = ("one", "two")  # each has a user of its own
CAPS = {
    "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
    "osd.0": ("mon", "allow profile osd", "osd", "allow *", "mgr", "allow profile osd"),
    "mgr.x": ("mon", "allow profile mgr", "osd", "allow *"),
    **{f"client.{host}": ("mon", "profile rbd", "osd", f"profile rbd pool={POOL}") for host in HOSTS},
}
# A single OSD is told to be enough. Without the intervals of paxos every change waits a second.
CONF = """
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{port}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
ms_bind_ipv6 = false
ms_bind_port_min = {low}
ms_bind_port_max = {high}
ms_async_op_threads = 1
ms_max_backoff = 1
keyring = {home}/$name.keyring
run_dir = {home}
admin_socket =
crash_dir = {home}
log_file = {home}/$name.log
mon_cluster_log_file = {home}/cluster.log
max_open_files = 0
auth_allow_insecure_global_id_reclaim = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
rbd_default_pool = {pool}

[client]
log_file =
rbd_default_features = 61

[mon]
mon_data = {home}/mon
mon_allow_pool_size_one = true
mon_osd_min_in_ratio = 0
mon_data_avail_crit = 1
mon_memory_autotune = false
rocksdb_cache_size = 16777216
paxos_propose_interval = 0.05
paxos_min_wait = 0.01

[mgr]
mgr_data = {home}/mgr
mgr_module_path = {home}/modules
mgr_initial_modules =
mgr_stats_period = 1
mgr_tick_period = 1

[osd]
osd_data = {home}/osd
osd_objectstore = memstore
memstore_device_bytes = 8589934592
osd_class_load_list = *
osd_class_default_list = *
osd_client_watch_timeout = 10
"""


ORDERS = """
import json, rados, sys, time

conf, what, name = sys.argv[1:]
cluster = rados.Rados(conffile=conf, name="client.admin")
cluster.connect(timeout=30)

def do(**words):
    code, out, error = cluster.mon_command(json.dumps({**words, "format": "json"}), b"")
    assert code == 0, (words, error)
    return json.loads(out) if out.strip() else None

if what == "new":
    do(prefix="osd new", uuid=name, id=0)
else:
    while do(prefix="osd stat")["num_up_osds"] != 1:
        time.sleep(0.05)
    do(prefix="osd pool create", pool=name, pg_num=8)
    do(prefix="osd pool application enable", pool=name, app="rbd")
    while not any(pool["stats"]["max_avail"] for pool in do(prefix="df")["pools"]):
        time.sleep(0.05)
cluster.shutdown()
"""


def missing() -> str:
    """The packages that a cluster needs and this machine lacks."""
    needed = {"ceph-mon": "ceph-mon", "ceph-mgr": "ceph-mgr", "ceph-osd": "ceph-osd", "rbd": "ceph-common"}
    return " ".join(package for program, package in needed.items() if not shutil.which(program))


class Cluster:
    """`home`: a short path, as sockets have short names."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.conf = home / "ceph.conf"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        fsid, port = str(uuid.uuid4()), free_ports()
        for folder in ("mon", "mgr", "osd", "modules"):
            (self.home / folder).mkdir()
        # The manager runs every module that it finds, each with an interpreter of its own.
        for module in Path("/usr/share/ceph/mgr").glob("*.py"):
            (self.home / "modules" / module.name).symlink_to(module)
        facts = {"fsid": fsid, "port": port, "low": port + 1, "high": port + 19, "home": self.home, "pool": POOL}
        self.conf.write_text(CONF.format(**facts))
        self._make_monitor(fsid, port)
        osd = str(uuid.uuid4())
        self._begin("mon")
        self._begin("mgr")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._order("new", osd)
        self._begin("osd")
        self._order("set up", POOL)

    def _make_monitor(self, fsid: str, port: int) -> None:
        everything = self.home / "all.keyring"
        self._run("ceph-authtool", "-C", everything, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for name, caps in CAPS.items():
            said = [word for pair in zip(caps[::2], caps[1::2], strict=True) for word in ("--cap", *pair)]
            own = self.home / f"{name}.keyring"
            self._run("ceph-authtool", "-C", own, "--gen-key", "-n", name, *said)
            self._run("ceph-authtool", everything, "--import-keyring", own)
        monmap = self.home / "monmap"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{port}]", monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", everything)

    def _order(self, *words: str) -> None:
        """By Debian's own Python, which has Ceph's modules: each call of `ceph` would take half a second."""
        python = ["/usr/bin/python3", "-c", ORDERS, str(self.conf), *words]
        subprocess.run(python, check=True, capture_output=True, text=True, timeout=SECONDS)

    def stop(self) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Its daemons do nothing: whoever asks waits."""
        for process in self._running.values():
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in self._running.values():
                process.send_signal(signal.SIGCONT)

    def lead_to(self, agent_home: Path, host: str) -> None:
        """What an admin does on a host: configuration, and the key of the host's user."""
        folder = agent_home / "ceph" / "main"
        folder.mkdir(parents=True)
        shutil.copy(self.conf, folder / "ceph.conf")
        shutil.copy(self.home / f"client.{host}.keyring", folder / f"ceph.client.{host}.keyring")

    def ceph(self, *words: str) -> str:
        return self._run("ceph", "--connect-timeout", "30", *words)

    def rbd(self, *words: str) -> str:
        return self._run("rbd", *words)

    def rados(self, *words: str) -> str:
        return self._run("rados", "--pool", POOL, *words)

    def images(self) -> set[str]:
        return set(self.rbd("ls", POOL).split())

    def io(self, image: str, command: str, *, snapshot: str = "") -> str:
        """What qemu-io says of an image, or of a snapshot of it."""
        file = {"driver": "rbd", "pool": POOL, "image": image, "conf": str(self.conf), "user": "admin"}
        how = ["-r"] if snapshot else []
        file |= {"snapshot": snapshot} if snapshot else {}
        node = "json:" + json.dumps({"driver": "raw", "file": file})
        return self._run("qemu-io", *how, "-c", command, node, own=False)

    def _begin(self, daemon: str) -> None:
        command = [f"ceph-{daemon}", "-i", DAEMONS[daemon], "--conf", str(self.conf), "-f"]
        with (self.home / f"{daemon}.out").open("wb") as out:
            self._running[daemon] = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def _run(self, program: str, *words: object, own: bool = True) -> str:
        asks = own and program in ("ceph", "rbd", "rados", "ceph-mon", "ceph-osd")
        command = [program, *(["--conf", str(self.conf)] if asks else []), *map(str, words)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout


def free_ports() -> int:
    """The first of twenty that nobody has, below those that the kernel gives to clients."""
    while True:
        port = random.randrange(20_000, 32_000, 20)
        if all(_is_free(port + number) for number in range(20)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
