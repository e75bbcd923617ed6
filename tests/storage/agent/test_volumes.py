"""Volumes on a host: command lines, files, and every fault point."""

import errno
import json
import shutil
import struct
import uuid
from pathlib import Path

import pytest

from agent import faults
from agent.control_plane import ControlPlane
from agent.errors import Refused
from agent.host import Host
from agent.jail import Jail
from agent.kinds import Tools
from agent.ledger import Ledger
from agent.paths import Paths
from storage.agent import qemu_img
from storage.agent.layers import Layers
from storage.agent.volumes import Volumes
from tests.agent.looker import Looker

GIB = 1 << 30
POINTS = sorted(point for point in faults.POINTS if point.startswith(("layers.", "volume.")))


class VolumeHost(Host):
    """A host on which nothing but volumes are."""

    def __init__(self, url: str, home: Path) -> None:
        paths = Paths(home / "agent", home / "run")
        paths.make()
        tools = Tools(paths, Ledger(paths.ledger), ControlPlane(url))
        self.volumes = Volumes(tools)
        self.layers = self.volumes.layers
        tools.add(self.volumes)
        super().__init__(tools)

    def look_once(self) -> None:
        """All that a worker's clock does, once."""
        self.notice_all(thoroughly=True)
        self.send_reports()
        self.look()
        self.send_reports()


@pytest.fixture
def host(control_plane, tmp_path):
    return VolumeHost(control_plane.url, tmp_path)


@pytest.fixture
def layers(tmp_path):
    paths = Paths(tmp_path / "agent", tmp_path / "run")
    paths.make()
    return Layers(paths, Jail())


def ident() -> str:
    return str(uuid.uuid4())


def spec(*chain: str, volume: str = "", keep: tuple[str, ...] = (), made: bool = False, **facts) -> dict:
    """A volume whose layers lie on each other, each of 1 GiB."""
    parents = (None, *chain)
    of = [
        {"id": layer, "parent": parent, "image": None, "size_bytes": GIB, "made": made}
        for layer, parent in zip(chain, parents, strict=False)
    ]
    return {
        "id": volume or ident(), "volume": {"name": "data"}, "size_gib": 1, "tree": chain[0], "layers": of,
        "active": chain[-1], "keep": list(keep), "held": False, **facts,
    }  # fmt: skip


@pytest.fixture
def give(host, control_plane):
    def order(verb, wanted, generation=1):
        control_plane.order(verb, wanted, generation, "volume")
        host.look_once()
        return control_plane.last(wanted["id"])

    return order


# Command lines


def test_formats_are_named_and_what_is_below_is_not_opened():
    assert qemu_img.create(Path("/v/b.new"), GIB, below=Path("a.qcow2")) == [
        "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "a.qcow2", "-F", "qcow2", "/v/b.new", str(GIB)
    ]  # fmt: skip
    assert qemu_img.create(Path("/v/a.new"), GIB) == ["qemu-img", "create", "-q", "-f", "qcow2", "/v/a.new", str(GIB)]


def test_growth_follows_nothing_that_a_header_says():
    command = qemu_img.resize(Path("/v/a.qcow2"), GIB)
    node = {"driver": "qcow2", "file": {"driver": "file", "filename": "/v/a.qcow2"}, "backing": None}
    assert command[:3] == ["qemu-img", "resize", "-q"]
    assert json.loads(command[3].removeprefix("json:")) == node
    assert command[4:] == [str(GIB)]


@pytest.mark.parametrize("at", [32, 72])  # encryption; an incompatible feature: an external data file
def test_a_header_that_asks_for_what_we_never_use_is_refused(layers, at):
    layer = ident()
    layers.create(layer, GIB)
    with layers.path(layer).open("r+b") as file:
        file.seek(at)
        file.write(struct.pack(">Q", 4) if at == 72 else struct.pack(">I", 2))
    with pytest.raises(Refused, match="tampered"):
        layers.grow(layer, 2 * GIB)


def test_a_header_that_names_a_file_of_the_host_is_not_followed(layers, tmp_path):
    """An emulator that was taken over writes its active layer's header."""
    layer, secret = ident(), tmp_path / "secret"
    secret.write_bytes(b"a secret" * 100)
    layers.create(layer, GIB)
    qemu_img.run(["qemu-img", "rebase", "-u", "-b", str(secret), "-F", "raw", "-f", "qcow2", str(layers.path(layer))])
    secret.chmod(0)
    secret.unlink()
    layers.grow(layer, 2 * GIB)
    assert layers.size(layer) == 2 * GIB


def test_a_layer_is_never_smaller_than_what_it_lies_on(layers):
    below, above = ident(), ident()
    layers.create(below, 2 * GIB)
    layers.create(above, GIB, parent=below)
    assert layers.size(above) == 2 * GIB


def test_ids_only_name_files(layers):
    with pytest.raises(ValueError, match="badly formed"):
        layers.path("../../etc/passwd")


# Orders


def test_layers_are_made_and_what_nobody_needs_is_removed(give, host):
    a, b, c = ident(), ident(), ident()
    first = spec(a, b)
    report = give("ensure_present", first)
    assert report["seen"] == "present"
    used = report["facts"].pop("used_bytes")
    assert report["facts"] == {"layers": sorted([a, b]), "size_gib": 1, "format": "qcow2"}
    assert 0 < used < 1 << 20
    other = give("ensure_present", spec(a, c, volume=first["id"]), 2)
    assert set(other["facts"]["layers"]) == {a, c} == set(host.layers.there())


def test_what_others_need_stays_when_a_volume_goes(give, host):
    a, b, c = ident(), ident(), ident()
    source, clone = spec(a, b, keep=(a,)), spec(a, c, keep=(a, b))
    give("ensure_present", source)
    give("ensure_present", clone)
    give("ensure_gone", {**source, "keep": [a, c]}, 2)
    assert set(host.layers.there()) == {a, c}
    give("ensure_gone", {**clone, "keep": []}, 2)
    assert set(host.layers.there()) == set()


def test_a_clone_that_has_not_come_yet_does_not_lose_what_it_will_lie_on(give, host):
    """Its source goes first. The order to remove that says what must stay, also if the worker died with it."""
    a, b, c = ident(), ident(), ident()
    source = spec(a, b)
    give("ensure_present", source)
    give("ensure_gone", {**source, "keep": [a]}, 2)
    assert set(host.layers.there()) == {a}
    assert give("ensure_present", spec(a, c))["seen"] == "present"


def test_without_a_word_about_others_nothing_that_they_know_is_removed(give, host):
    a, b, c = ident(), ident(), ident()
    source = spec(a, b)
    give("ensure_present", source)
    give("ensure_present", spec(a, c))
    give("ensure_gone", {"id": source["id"]}, 2)
    assert set(host.layers.there()) == {a, c}


def test_what_was_made_once_is_never_made_anew(give, host):
    a = ident()
    wanted = spec(a, made=True)
    report = give("ensure_present", wanted)
    assert (report["seen"], "missing" in report["facts"]["problem"]) == ("broken", True)
    assert set(host.layers.there()) == set()


def test_what_an_emulator_has_open_is_not_grown(give, host):
    a = ident()
    wanted = spec(a)
    give("ensure_present", wanted)
    give("ensure_present", {**wanted, "size_gib": 2, "held": True}, 2)
    assert host.layers.size(a) == GIB
    give("ensure_present", {**wanted, "size_gib": 2}, 3)
    assert host.layers.size(a) == 2 * GIB


def test_a_host_says_what_it_can_and_which_files_of_images_it_needs(give, host, monkeypatch):
    able = ("layers", "restore", "merge")
    assert host.capabilities()["volumes"].items() >= dict.fromkeys(able, True).items()
    monkeypatch.setattr(qemu_img, "is_there", lambda: False)
    assert host.capabilities()["volumes"].items() >= dict.fromkeys(able, False).items()
    a = ident()
    lost = spec(a)
    lost["layers"][0]["image"] = {"sha256": "0" * 64, "size": 1, "format": "vmdk"}
    assert "format vmdk" in give("ensure_present", lost)["facts"]["problem"]
    assert host.tools.is_file_used("0" * 64)


# In a folder that hosts share


@pytest.fixture
def pool(tmp_path):
    """Its id; the host has it mounted."""
    export, pools, key = tmp_path / "export", tmp_path / "agent" / "pools", ident()
    export.mkdir()
    (export / ".pileus-pool").write_text(f"{key}\n")
    pools.mkdir(parents=True)
    (pools / "nfs").symlink_to(export)
    return key


def test_what_is_in_a_shared_folder_is_there_and_not_on_the_hosts_disk(give, host, pool, tmp_path):
    a, b = ident(), ident()
    assert give("ensure_present", spec(a, b, pool=pool))["seen"] == "present"
    assert {path.stem for path in (tmp_path / "export" / "volumes").iterdir()} == {a, b}
    assert (set(host.layers.there()), host.volumes.disk_bytes()) == (set(), 0)
    assert host.volumes.strays() == []
    assert host.capabilities()["pools"][pool]["name"] == "nfs"


def test_it_stays_when_the_control_plane_does_not_know_who_else_needs_it(give, host, pool):
    """Another host may have it."""
    a = ident()
    wanted = spec(a, pool=pool)
    give("ensure_present", wanted)
    assert give("ensure_gone", {"id": wanted["id"]}, 2)["seen"] == "gone"
    assert host.layers.exists(a)


def test_nothing_is_made_where_nothing_is_mounted(give, host, pool, tmp_path):
    (tmp_path / "export" / ".pileus-pool").unlink()
    assert "is not mounted" in give("ensure_present", spec(ident(), pool=pool))["facts"]["problem"]
    assert not (tmp_path / "export" / "volumes").exists()
    assert host.capabilities()["pools"] == {}


def test_nothing_is_gone_while_its_folder_is_not_mounted(give, host, pool, tmp_path):
    a = ident()
    wanted = spec(a, pool=pool)
    give("ensure_present", wanted)
    (tmp_path / "agent" / "pools" / "nfs").unlink()
    going = {"id": wanted["id"], "pool": pool, "keep": []}
    assert "is not mounted" in give("ensure_gone", going, 2)["facts"]["problem"]
    (tmp_path / "agent" / "pools" / "nfs").symlink_to(tmp_path / "export")
    assert give("ensure_gone", going, 3)["seen"] == "gone"
    assert list((tmp_path / "export" / "volumes").iterdir()) == []


def test_a_host_gives_up_what_others_keep_without_having_it_mounted(give, host, pool, tmp_path):
    a = ident()
    wanted = spec(a, pool=pool)
    give("ensure_present", wanted)
    (tmp_path / "agent" / "pools" / "nfs").unlink()
    assert give("ensure_gone", {"id": wanted["id"], "pool": pool, "keep": [a]}, 2)["seen"] == "gone"


def test_a_file_server_that_fails_is_no_folder(host, pool, monkeypatch):
    def fail(folder):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(shutil, "disk_usage", fail)
    assert host.volumes.capabilities()["pools"] == {}


# Killed and refused at every fault point


@pytest.fixture(scope="module")
def looker():
    process = Looker("tests.storage.agent.test_volumes:VolumeHost")
    yield process
    process.close()


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("how", ["kill", "refuse"])
def test_a_volume_survives_every_fault_point(how, point, looker, control_plane, tmp_path):
    a, b, c = ident(), ident(), ident()
    base = spec(a)
    life = [
        ("ensure_present", base, {a}),
        ("ensure_present", spec(a, b, volume=base["id"]), {a, b}),
        ("ensure_present", spec(a, c, volume=base["id"]), {a, c}),
        ("ensure_gone", base, set()),
    ]
    trace, struck = tmp_path / "trace", False
    for generation, (verb, wanted, there) in enumerate(life, start=1):
        control_plane.order(verb, wanted, generation, "volume")
        looker.look(control_plane.url, tmp_path, f"{how}:{point}", trace)
        struck = struck or point in trace.read_text().split()
        if how == "refuse" and control_plane.seen(base["id"])[-1:] == ["broken"]:
            control_plane.order(verb, wanted, generation, "volume")
        control_plane.leased.clear()  # as for a worker of a new incarnation
        assert looker.look(control_plane.url, tmp_path, "", trace) == 0
        assert control_plane.seen(base["id"])[-1] == ("gone" if verb == "ensure_gone" else "present")
        directory = tmp_path / "agent/volumes"
        assert {file.name for file in directory.iterdir()} == {f"{layer}.qcow2" for layer in there}
    assert struck, f"no run reached {point}"
