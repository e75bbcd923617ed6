"""Imports on a host: what a tenant gave becomes a disk in the store, or is refused in words; nothing is left behind."""

import contextlib
import gzip
import hashlib
import json
import lzma
import os
import socket
import subprocess
import tempfile
import threading
import uuid
from pathlib import Path

import pytest
import zstandard

from agent import faults, jail
from agent.control_plane import ControlPlane
from agent.entries import Key
from agent.errors import Abandoned
from agent.host import Host
from agent.kinds import Tools
from agent.ledger import Ledger
from agent.paths import Paths
from agent.work import Work
from storage.agent import conversion, imports
from storage.agent.confined import FETCHING, HELPERS, Bounds, Failed, Helpers, Program, TooLong, View
from storage.agent.images import Images
from storage.agent.inspection.common import Disk, Unfit
from tests.agent.looker import Looker
from tests.compute.agent.virtual import installer
from tests.servers import wait_until
from tests.storage.agent.inspection import hostile

POINTS = sorted(point for point in faults.POINTS if point.startswith(("import.", "image.")))
MANY = 1 << 40


class ImageHost(Host):
    """A host on which nothing but images are imported."""

    def __init__(self, url: str, home: Path) -> None:
        paths = Paths(home / "agent", home / "run")
        paths.make()
        tools = Tools(paths, Ledger(paths.ledger), ControlPlane(url), jail.probe(paths))
        self.images = Images(tools)
        tools.add(self.images)
        super().__init__(tools)

    def look_once(self) -> None:
        """All that a worker's clock does, once."""
        self.notice_all(thoroughly=True)
        self.send_reports()
        self.look()
        self.send_reports()


@pytest.fixture
def open_to_all(tmp_path):
    """Confined programs have users of their own: they have to get to the folder of this test."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path


@pytest.fixture
def host(control_plane, open_to_all):
    return ImageHost(control_plane.url, open_to_all)


@pytest.fixture
def spec():
    return {
        "id": str(uuid.uuid4()),
        "image": {"id": "1", "name": "web", "project": "demo"},
        "source": {"kind": "upload", "sha256": None, "size": None},
        "declared_format": None,
        "limits": {"virtual_bytes": MANY},
        "result": {"format": "qcow2"},
    }


@pytest.fixture
def upload(control_plane, spec, tmp_path):
    """Let the control plane have this content as the upload of the import."""

    def put(content):
        path = tmp_path / "uploaded"
        path.write_bytes(content)
        control_plane.files[spec["id"]] = path
        spec["source"] = {"kind": "upload", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    return put


@pytest.fixture
def web(control_plane):
    """The address of a file on a web server."""

    def put(content):
        path = Path(tempfile.mkstemp(prefix="pileus-")[1])
        path.write_bytes(content)
        control_plane.files["disk.img"] = path
        paths.append(path)
        return f"{control_plane.url}/disk.img"

    paths = []
    yield put
    for path in paths:
        path.unlink()


@pytest.fixture
def bring_in(host, control_plane, spec):
    """Order the import, let the host look, and give back its report."""

    def order(verb="ensure_present", generation=1):
        control_plane.order(verb, spec, generation, "image")
        host.look_once()
        return control_plane.last(spec["id"])

    return order


def test_slow_servers_leave_places_for_other_work(host):
    helpers, one_more = host.images.helpers, Work()
    one_more.abandon()  # as soon as it waits
    with contextlib.ExitStack() as stack:
        for _ in range(FETCHING):
            stack.enter_context(helpers.turn(Work(), FETCHING))
        with pytest.raises(Abandoned):
            stack.enter_context(helpers.turn(one_more, FETCHING))
        for _ in range(HELPERS - FETCHING):
            stack.enter_context(helpers.turn(one_more))


def identical(one: Path, format_: str, content: bytes, other_format: str, folder: Path) -> bool:
    other = folder / "other"
    other.write_bytes(content)
    command = ["qemu-img", "compare", "-f", format_, "-F", other_format, one, other]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("kind", ["qcow2", "raw", "vdi", "vmdk", "stream", "vpc", "fixed-vpc", "vhdx"])
def test_a_disk_of_every_format_comes_in_as_it_was(kind, bring_in, upload, control_plane, spec, tmp_path, host):
    content = hostile.sound(kind)
    upload(content)
    report = bring_in()
    assert report["seen"] == "present", report["facts"]
    (file,) = report["facts"]["files"]
    stored = control_plane.imported[spec["id"], 0]
    assert (file["size"], file["sha256"]) == (len(stored), hashlib.sha256(stored).hexdigest())
    assert (file["role"], file["index"], file["format"]) == ("disk", 0, "qcow2")
    result = tmp_path / "result"
    result.write_bytes(stored)
    assert identical(result, "qcow2", content, {"stream": "vmdk", "fixed-vpc": "vpc"}.get(kind, kind), tmp_path)
    assert {one["phase"] for one in control_plane.progress} >= {"fetching", "inspecting", "converting", "storing"}
    assert sorted(path.name for path in host.images.folder(spec["id"]).iterdir()) == ["done.json"]


COMPRESSIONS = {"gzip": gzip.compress, "xz": lzma.compress, "zstd": zstandard.compress}


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_a_compressed_disk_comes_in_as_it_was(how, bring_in, upload, control_plane, spec, tmp_path):
    content = hostile.sound("raw")
    upload(COMPRESSIONS[how](content))
    report = bring_in()
    assert report["seen"] == "present", report["facts"]
    result = tmp_path / "result"
    result.write_bytes(control_plane.imported[spec["id"], 0])
    assert identical(result, "qcow2", content, "raw", tmp_path)
    assert "unpacking" in {one["phase"] for one in control_plane.progress}


def test_what_a_hostile_file_is_compressed_into_makes_no_difference(bring_in, upload, control_plane, host):
    make, _, _ = hostile.KINDS["qcow2-backing-path"]
    cases = (
        (lzma.compress(make()), "."),
        (lzma.compress(gzip.compress(hostile.sound("raw"))), "compressed (gzip)"),
        (gzip.compress(b"\x55" * (256 << 20)), "unpacks to more than 100 times its size"),
    )
    for generation, (packed, words) in enumerate(cases, start=1):
        upload(packed)
        report = bring_in(generation=generation)
        assert report["seen"] == "broken"
        assert report["facts"]["final"] is True
        assert words in report["facts"]["problem"]
        assert list(host.images.directory.iterdir()) == []
    assert control_plane.imported == {}


def test_an_appliance_comes_in_with_all_of_its_disks(bring_in, upload, control_plane, spec, tmp_path):
    files = hostile.FILE + hostile.FILE.replace("file1", "file2").replace("disk1", "disk2")
    disks = hostile.DISK + hostile.DISK.replace("vmdisk1", "vmdisk2").replace("file1", "file2")
    items = hostile.ITEMS + hostile.item(7, 17, HostResource="ovf:/disk/vmdisk2", Parent="3")
    first, second = hostile.sound("stream"), hostile.sound("vmdk")
    descriptor = hostile.ovf(files=files, disks=disks, items=items)
    upload(hostile.tar(("web.ovf", descriptor), ("disk1.vmdk", first), ("disk2.vmdk", second)))
    report = bring_in()
    assert report["seen"] == "present", report["facts"]
    assert report["facts"]["found"]["machine"]["cpus"] == 2
    assert [disk["name"] for disk in report["facts"]["found"]["disks"]] == ["disk1.vmdk", "disk2.vmdk"]
    assert [file["index"] for file in report["facts"]["files"]] == [0, 1]
    for number, content in enumerate((first, second)):
        result = tmp_path / f"result-{number}"
        result.write_bytes(control_plane.imported[spec["id"], number])
        assert identical(result, "qcow2", content, "vmdk", tmp_path)


@pytest.mark.parametrize("kind", ["qcow2-backing-path", "vmdk-flat-passwd", "vmdk-smuggled-descriptor", "ovf-entities"])
def test_a_hostile_file_is_refused_for_good_and_nothing_of_it_is_left(kind, bring_in, upload, control_plane, host):
    make, _, _ = hostile.KINDS[kind]
    upload(make())
    report = bring_in()
    assert report["seen"] == "broken"
    assert report["facts"]["final"] is True
    assert report["facts"]["problem"].endswith((".", "2", "k", "?"))
    assert control_plane.imported == {}
    assert list(host.images.directory.iterdir()) == []


def test_what_is_declared_counts(bring_in, upload, spec):
    upload(hostile.sound("qcow2"))
    spec["declared_format"] = "raw"
    assert "declared as raw and is qcow2" in bring_in()["facts"]["problem"]


def test_an_iso_is_a_cd_unless_it_is_declared_a_disk(bring_in, upload, control_plane, spec):
    content = installer(b"hello", b"installed", b"again")
    upload(content)
    (file,) = bring_in()["facts"]["files"]
    assert (file["role"], file["format"], control_plane.imported[spec["id"], 0]) == ("cdrom", "raw", content)
    spec["declared_format"] = "raw"
    (file,) = bring_in(generation=2)["facts"]["files"]
    assert (file["role"], file["format"]) == ("disk", "qcow2")


def test_the_limit_of_the_order_counts(bring_in, upload, spec):
    upload(hostile.sound("qcow2"))
    spec["limits"] = {"virtual_bytes": 1 << 20}
    assert "4 MiB for its guest, and 1 MiB are allowed" in bring_in()["facts"]["problem"]


def test_a_result_that_the_control_plane_refuses_is_no_endless_work(bring_in, upload, control_plane):
    control_plane.refused_results = "The quota of images is used up."
    upload(hostile.sound("qcow2"))
    report = bring_in()
    assert (report["seen"], report["facts"]["problem"]) == ("broken", "The quota of images is used up.")
    assert report["facts"]["final"] is True


def test_a_second_order_finds_it_done(bring_in, upload, control_plane, spec):
    upload(hostile.sound("qcow2"))
    first = bring_in()
    control_plane.imported.clear()
    assert bring_in(generation=2)["facts"] == first["facts"]
    assert control_plane.imported == {}
    assert bring_in("ensure_gone", 3)["seen"] == "gone"


def test_the_host_says_what_it_can_do(host):
    assert host.capabilities()["image_cache"] == {"files": 0, "bytes": 0, "held": {}}
    found = host.capabilities()["images"]
    assert "ova" in found["import"]
    assert found["confined"]["uid"] is (os.geteuid() == 0)


def test_a_bomb_is_stopped(bring_in, upload, monkeypatch):
    """A small file that would fill the host's disk."""
    monkeypatch.setattr(conversion, "SPARE_BYTES", 1 << 20)
    monkeypatch.setattr(conversion, "MAX_RATIO", 2)
    upload(bomb())
    report = bring_in()
    assert report["facts"]["final"] is True
    assert "unpacks to more than 2 times its size" in report["facts"]["problem"]


def bomb() -> bytes:
    """A compressed qcow2 of 32 MiB in which every byte is the same."""
    raw, made = Path("/tmp") / uuid.uuid4().hex, Path("/tmp") / uuid.uuid4().hex
    try:
        raw.write_bytes(b"\x55" * (32 << 20))
        subprocess.run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, made], check=True)
        return made.read_bytes()
    finally:
        raw.unlink()
        made.unlink()


def test_an_image_comes_from_an_address(bring_in, web, spec, control_plane):
    content = hostile.sound("vdi")
    spec["source"] = {"kind": "url", "url": web(content), "allow": ["127.0.0.1"], "max_bytes": MANY, "max_seconds": 60}
    spec["source"]["sha256"] = hashlib.sha256(content).hexdigest()
    assert bring_in()["seen"] == "present", control_plane.last(spec["id"])["facts"]


@pytest.mark.parametrize(("change", "words"), [
    ({"allow": []}, "no public address"),
    ({"sha256": "0" * 64}, "another SHA-256"),
    ({"max_bytes": 1000}, "are allowed"),
    ({"url": "http://127.0.0.1:UNUSED/x"}, "failed 5 times"),
])  # fmt: skip
def test_an_address_that_will_not_do_is_refused(change, words, bring_in, web, spec, host, monkeypatch):
    monkeypatch.setattr(imports, "MAX_PAUSE", 0.01)
    good = {"url": web(hostile.sound("vdi")), "allow": ["127.0.0.1"], "max_bytes": MANY, "max_seconds": 60}
    spec["source"] = {"kind": "url", **good, **change}
    with socket.create_server(("127.0.0.1", 0)) as server:
        unused = str(server.getsockname()[1])
    spec["source"]["url"] = spec["source"]["url"].replace("UNUSED", unused)
    report = bring_in()
    assert (report["seen"], report["facts"]["final"]) == ("broken", True)
    assert words in report["facts"]["problem"]
    assert list(host.images.directory.iterdir()) == []


# Confinement


@pytest.fixture
def confined(host, tmp_path):
    """Run a command confined, with a folder that it may write in."""
    folder = tmp_path / "work"
    folder.mkdir()

    def run(*argv, seconds=20, view=None, **bounds):
        with host.images.helpers.turn(Work()) as uid:
            if uid is not None:
                os.chown(folder, uid, uid)
            program = Program(argv, Bounds(seconds, **bounds), view or View(writable=(folder,)))
            return host.images.helpers.run(program, uid, Work())

    run.folder = folder
    return run


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: users and namespaces of their own")


@needs_root
def test_a_confined_program_sees_no_file_of_the_host(confined, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("canary")
    assert "uid=19" in confined("id")
    for path in (secret, "/etc/passwd", "/proc/1/cmdline", "/root"):
        with pytest.raises(Failed, match="No such file"):
            confined("cat", os.fspath(path))


@needs_root
def test_a_confined_program_has_no_network(confined):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"/dev/tcp/127.0.0.1/{server.getsockname()[1]}"
        with pytest.raises(Failed, match="unreachable"):
            confined("bash", "-c", f": < {address}")


def test_a_confined_program_ends_in_time_and_writes_no_more_than_it_may(confined):
    with pytest.raises(TooLong):
        confined("sleep", "60", seconds=0.5)
    with pytest.raises(Failed):
        confined("dd", "if=/usr/bin/qemu-img", f"of={confined.folder}/big", "bs=64k", file_bytes=65536)
    assert (confined.folder / "big").stat().st_size <= 65536


def test_a_confined_program_ends_when_its_work_is_abandoned(host):
    work = Work()
    threading.Timer(0.5, work.abandon).start()
    with host.images.helpers.turn(work) as uid, pytest.raises(Abandoned):
        host.images.helpers.run(Program(["sleep", "61.5"], Bounds(60)), uid, work)
    wait_until(lambda: subprocess.run(["pgrep", "-f", "sleep 61[.]5"], check=False).returncode == 1, seconds=10)


def test_users_of_confined_programs_are_their_own(host):
    with host.images.helpers.turn(Work()) as one, host.images.helpers.turn(Work()) as other:
        assert one is None or one != other


@needs_root
@pytest.mark.parametrize("kind", ["qcow2-backing-path", "vmdk-flat-passwd", "vmdk-smuggled-descriptor"])
def test_even_uninspected_a_hostile_file_reads_nothing_of_the_host(kind, host, tmp_path):
    """What would happen if an inspection missed it."""
    content = hostile.KINDS[kind][0]()
    source, out = tmp_path / "source", tmp_path / "out"
    source.write_bytes(content)
    source.chmod(0o444)
    out.mkdir()
    with host.images.helpers.turn(Work()) as uid:
        os.chown(out, uid, uid)
        tool = conversion.Tool(host.images.helpers, uid, out, Work())
        disk = Disk(kind.split("-")[0], 8 << 20, 0, len(content))
        with contextlib.suppress(Unfit):
            tool.convert(source, disk, "raw", out / "made", lambda _: None)
    assert not (out / "made").exists() or b"root:" not in (out / "made").read_bytes()


def test_the_command_line_of_a_conversion_says_every_format():
    disk = Disk("qcow2", 1 << 20, 0, 5)
    argv = conversion.argv(Path("/a/source"), disk, "qcow2", Path("/a/out/disk-0"))
    assert argv[:7] == ["qemu-img", "convert", "-p", "-O", "qcow2", "-o", "compat=1.1"]
    assert json.loads(argv[7].removeprefix("json:")) == {
        "driver": "qcow2",
        "backing": None,
        "file": {"driver": "file", "filename": "/a/source"},
    }
    inside = conversion.argv(Path("/a/source"), Disk("vmdk", 9, 512, 77, "disk1.vmdk"), "raw", Path("/a/out/disk-0"))
    assert json.loads(inside[5].removeprefix("json:"))["file"] == {
        "driver": "raw",
        "offset": 512,
        "size": 77,
        "file": {"driver": "file", "filename": "/a/source"},
    }


# Killed and refused everywhere


@pytest.fixture(scope="module")
def looker():
    process = Looker("tests.storage.agent.test_images:ImageHost")
    yield process
    process.close()


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("how", ["kill", "refuse"])
def test_an_import_survives_every_fault_point(how, point, looker, control_plane, open_to_all, spec, upload):
    upload(gzip.compress(hostile.sound("vmdk")))
    trace = open_to_all / "trace"
    struck = False
    for generation, (verb, expected) in enumerate((("ensure_present", "present"), ("ensure_gone", "gone")), start=1):
        order = control_plane.order(verb, spec, generation, "image")
        looker.look(control_plane.url, open_to_all, f"{how}:{point}", trace, "look")
        struck = struck or point in trace.read_text().split()
        control_plane.leased.clear()  # as for a worker of a new incarnation
        if how == "refuse" and control_plane.orders == {}:
            control_plane.order(verb, spec, generation, "image")  # it was answered: the control plane asks again
        assert order["generation"] == generation
        assert looker.look(control_plane.url, open_to_all, "", trace, "look") == 0
        assert control_plane.seen(spec["id"])[-1] == expected
    assert struck, f"no run reached {point}"
    host = ImageHost(control_plane.url, open_to_all)
    assert list(host.images.directory.iterdir()) == []
    assert host.ledger.get(Key("image", spec["id"])).seen == "gone"


def test_helpers_are_described_without_mounts_for_an_ordinary_user(tmp_path):
    paths = Paths(tmp_path / "agent", tmp_path / "run")
    paths.make()
    assert Helpers(paths, jail.Jail()).describe() == {"uid": False, "network": False, "mounts": False}
