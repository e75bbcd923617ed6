"""Machines of other parts than virtio, with the real QEMU and guests that need little."""

import json
import uuid

import pytest

from agent.errors import Refused
from compute.agent import nics
from compute.agent.disks import Disk, Layer, opened
from compute.agent.hypervisors.qemu import control, firmware
from compute.agent.nics import Nic
from images import build
from storage.agent import qcow2
from storage.agent.images import Images
from tests.compute.agent.test_qemu import boot, console, host, obey_really, wait_for, wait_for_line  # noqa: F401
from tests.compute.agent.virtual import GREETING, installer, put_image_file
from tests.hosts import make_spec
from tests.images.old_parts import make as make_old_parts

pytestmark = pytest.mark.vm

# What is wished; the QEMU's machine, the drivers of the disk and of the NIC; whether a disk can be plugged in.
CASES = {
    "pc": ({"machine_type": "pc"}, ("pc-i440fx", "virtio-blk-pci", "virtio-net-pci"), True),
    "ide": ({"disk_bus": "ide", "nic_bus": "rtl8139"}, ("pc-i440fx", "ide-hd", "rtl8139"), False),
    "sata": ({"disk_bus": "sata", "nic_bus": "e1000e"}, ("pc-q35", "ide-hd", "e1000e"), False),
    "old-sata": ({"disk_bus": "sata", "nic_bus": "e1000"}, ("pc-i440fx", "ide-hd", "e1000"), False),
    "scsi": (
        {"machine_type": "q35", "disk_bus": "scsi", "nic_bus": "e1000"},
        ("pc-q35", "scsi-hd", "e1000"),
        True,
    ),
}


def with_hardware(spec, **wish):
    return {**spec, "image": {**spec["image"], "hardware": wish}}


def parts(connection):
    """The types of a running machine, its disk and its NIC, as QEMU calls them."""
    paths = ("/machine", "/machine/peripheral/vda-device", "/machine/peripheral/nic0-device")
    return [connection.execute("qom-get", {"path": path, "property": "type"}) for path in paths]


@pytest.mark.parametrize("name", CASES)
def test_a_machine_is_made_of_what_its_image_says(host, obey_really, kernel_spec, name, tmp_path):  # noqa: F811
    wish, made_of, plugs_disks = CASES[name]
    spec = with_hardware(kernel_spec, **wish)
    boot(host, obey_really, spec)
    wait_for_line(host, spec, GREETING)
    volume = tmp_path / "volume"
    qcow2.create(volume, 1 << 20)
    extra = Disk(1, "extra", (Layer("vdb-x", volume, "qcow2"),))
    with control.connect(host.machine(spec["id"]).home) as connection:
        assert [found.startswith(wanted) for found, wanted in zip(parts(connection), made_of, strict=True)] == [
            True
        ] * 3
        connection.slots.plug_nic(Nic(nics.mac_address(make_spec()["id"]), slot=1), "web")
        with opened((extra,)) as (ready,):
            if plugs_disks:
                connection.slots.plug_disk(ready)
            else:
                with pytest.raises(Refused, match="while a machine runs: stop it first"):
                    connection.slots.plug_disk(ready)
        there = connection.slots.look()
        assert (sorted(there.disks), sorted(there.nics)) == ([0, 1] if plugs_disks else [0], [0, 1])
        assert there.disks[0].serial == spec["id"][:20]


def test_what_was_suspended_goes_on_with_the_parts_that_it_had(host, obey_really, kernel_spec):  # noqa: F811
    spec = with_hardware(kernel_spec, disk_bus="ide", nic_bus="rtl8139")
    boot(host, obey_really, spec)
    wait_for_line(host, spec, GREETING)
    assert obey_really("ensure_suspended", spec, 2)["seen"] == "suspended"
    boot(host, obey_really, with_hardware(kernel_spec, disk_bus="sata"), 3)
    with control.connect(host.machine(spec["id"]).home) as connection:
        assert parts(connection)[1:] == ["ide-hd", "rtl8139"]
        assert sorted(connection.slots.look().disks) == [0]


@pytest.mark.parametrize("wish", [{}, {"disk_bus": "ide"}], ids=["sata", "ide"])
def test_a_machine_installs_itself_from_an_iso(host, obey_really, control_plane, tmp_path, wish):  # noqa: F811
    """It starts from the CD while its disk is empty, and from its disk once that can be booted; CDs are changed."""
    iso = installer(b"hello from the CD\r\n", b"installed\r\n", b"hello from the disk\r\n")
    file = put_image_file(control_plane, tmp_path, "cdrom", iso)
    spec = make_spec(
        "new", image={"id": "1", "name": "iso", "architecture": "x86_64", "files": [file], "hardware": wish}
    )
    boot(host, obey_really, spec)
    wait_for_line(host, spec, b"installed")
    assert console(host, spec).count(b"hello from the CD") == 1
    obey_really("ensure_running", {**spec, "reboot": {"nonce": "a", "hard": True}}, 2)
    wait_for_line(host, spec, b"hello from the disk")
    # A suspended machine has its CD again, and so has one that was stopped.
    assert obey_really("ensure_suspended", spec, 3)["seen"] == "suspended"
    assert obey_really("ensure_running", spec, 4)["seen"] == "running"
    assert obey_really("ensure_stopped", {**spec, "stop": {"force": True}}, 5)["seen"] == "stopped"
    boot(host, obey_really, spec, 6)
    wait_for_line(host, spec, b"hello from the disk", 2)
    assert console(host, spec).count(b"hello from the CD") == 1
    other = put_image_file(control_plane, tmp_path, "cdrom", iso + bytes(2048))
    with_other, empty = (
        {**spec, "image": {**spec["image"], "files": files}, "cd_drive": True} for files in ([other], [])
    )

    def holds(wanted, generation, sha256):
        report = obey_really("ensure_running", wanted, generation)
        assert (report["seen"], report["facts"].get("devices_problem")) == ("running", None)
        assert report["facts"]["cd"] == sha256
        with control.connect(host.machine(spec["id"]).home) as connection:
            assert connection.slots.look().cd == (f"cd-{sha256[:20]}" if sha256 else "")

    holds(with_other, 7, other["sha256"])
    holds(empty, 8, None)
    assert obey_really("ensure_suspended", empty, 9)["seen"] == "suspended"
    holds(empty, 10, None)
    holds(spec, 11, file["sha256"])


def test_what_cannot_be_is_refused_with_all_faults(host, obey_really, kernel_spec):  # noqa: F811
    report = obey_really(
        "ensure_running", with_hardware(kernel_spec, machine_type="q35", disk_bus="ide", firmware="uefi")
    )
    assert (report["seen"], report["facts"]["fix_by"]) == ("broken", "you")
    assert "UEFI does not start a kernel" in report["facts"]["problem"]
    assert "The machine type q35 has no IDE: take virtio, virtio SCSI or SATA" in report["facts"]["problem"]


def test_firmware_is_found_by_its_descriptors(tmp_path, monkeypatch):
    monkeypatch.setattr(firmware, "DESCRIPTORS", (tmp_path,))
    for name in ("code", "variables"):
        (tmp_path / name).write_bytes(b"-")

    def describe(number, features=(), machines=("pc-q35-*",), format_="raw", code="code"):
        flash = {"executable": {"filename": str(tmp_path / code), "format": format_}}
        flash["nvram-template"] = {"filename": str(tmp_path / "variables"), "format": format_}
        told = {"interface-types": ["uefi"], "mapping": {"device": "flash", **flash}, "features": list(features)}
        told["targets"] = [{"architecture": "x86_64", "machines": list(machines)}]
        (tmp_path / f"{number}.json").write_text(json.dumps(told))

    assert firmware.find("x86_64", "q35") is None
    (tmp_path / "0.json").write_text("{")
    describe(1, features=["secure-boot", "requires-smm"])
    describe(2, format_="qcow2")
    describe(3, code="not-there")
    describe(4, machines=["pc-i440fx-*"])
    assert firmware.find("x86_64", "q35") is None
    describe(5)
    assert firmware.find("x86_64", "q35") == firmware.Uefi(tmp_path / "code", tmp_path / "variables")
    assert firmware.find("aarch64", "q35") is None


@pytest.fixture(scope="session")
def old_parts(tmp_path_factory):
    """A disk that BIOS and UEFI boot."""
    return make_old_parts(tmp_path_factory.mktemp("old-parts"), build.default_cache())


@pytest.fixture
def boot_old_parts(host, obey_really, control_plane, old_parts, tmp_path):  # noqa: F811
    """Start a machine of these parts from its disk, and wait until GRUB has found its NIC; the machine's spec."""

    def start(wish, firmware_name, nic):
        file = put_image_file(control_plane, tmp_path, "disk", old_parts.read_bytes()) | {"format": "qcow2"}
        image = {"id": "1", "name": "old", "architecture": "x86_64", "files": [file], "hardware": wish}
        spec = make_spec("old", image=image, memory_mib=256)
        boot(host, obey_really, spec)
        wait_for(lambda: firmware_name in console(host, spec), 240)
        assert nic in console(host, spec)
        return spec

    return start


@pytest.mark.timeout(400)
def test_a_guest_is_booted_from_its_disk_by_bios(boot_old_parts):
    boot_old_parts({"disk_bus": "ide", "nic_bus": "rtl8139"}, b"STARTED BY pc", b"10ec:8139")


@pytest.mark.timeout(400)
def test_a_guest_is_booted_from_its_disk_by_uefi_which_keeps_its_settings(
    host, obey_really, boot_old_parts, monkeypatch, tmp_path,  # noqa: F811
):  # fmt: skip
    spec = boot_old_parts(
        {"firmware": "uefi", "disk_bus": "sata", "nic_bus": "e1000e"}, b"STARTED BY efi", b"8086:10d3"
    )
    home = host.machine(spec["id"]).home
    assert obey_really("ensure_stopped", {**spec, "stop": {"force": True}}, 2)["seen"] == "stopped"
    kept = home.variables.read_bytes()
    template = firmware.find("x86_64", "q35").variables
    assert len(kept) == template.stat().st_size
    assert kept != template.read_bytes()
    if host.tools.jail.uid:
        assert (home.variables.stat().st_uid, home.variables.stat().st_mode & 0o777) == (
            host.record(spec["id"]).uid, 0o600,
        )  # fmt: skip
    # A start goes on with them, and with no others.
    empty = tmp_path / "no-firmware"
    empty.mkdir()
    monkeypatch.setattr(firmware, "DESCRIPTORS", (empty,))
    assert "uefi" not in host.machines.hypervisors["qemu"].probe()["architectures"]["x86_64"]["hardware"]
    report = obey_really("ensure_running", spec, 3)
    assert (report["seen"], "has no UEFI for x86_64: install the package ovmf" in report["facts"]["problem"]) == (
        "broken", True,
    )  # fmt: skip
    assert home.variables.read_bytes() == kept


@pytest.mark.timeout(600)
def test_an_image_is_booted_by_the_entry_that_uefi_kept(
    host, obey_really, control_plane, tmp_path,  # noqa: F811
):  # fmt: skip
    """The system has no loader where UEFI looks for one by itself."""
    host.tools.add(Images(host.tools))
    disk = make_old_parts(tmp_path, build.default_cache(), installed=True)
    file = put_image_file(control_plane, tmp_path, "disk", disk.read_bytes()) | {"format": "qcow2"}
    image = {"id": "1", "name": "installed", "architecture": "x86_64", "hardware": {"firmware": "uefi"}}

    def start(*files):
        spec = make_spec("installed", image={**image, "files": list(files)}, memory_mib=256)
        boot(host, obey_really, spec)
        wait_for(lambda: b"STARTED BY efi" in console(host, spec), 240)
        return spec

    first = start(file)
    work = {
        "id": str(uuid.uuid4()), "image": {}, "limits": {"virtual_bytes": 1 << 40}, "declared_format": None,
        "source": {"kind": "machine", "type": "instance", "machine": first["id"]}, "result": {"format": "qcow2"},
    }  # fmt: skip
    control_plane.order("ensure_present", work, 1, "image")
    host.look_once()
    report = control_plane.last(work["id"])
    assert report["seen"] == "present", report["facts"]
    made = report["facts"]["files"]
    assert [one["role"] for one in made] == ["disk", "uefi-variables"]
    for one in made:
        path = tmp_path / one["sha256"]
        path.write_bytes(control_plane.imported[work["id"], one["index"]])
        control_plane.files[one["sha256"]] = path
    second = start(*made)
    assert b"Interactive Shell" not in console(host, second)
    kept = host.machine(second["id"]).home.variables
    assert (kept.stat().st_uid, kept.stat().st_mode & 0o777) == (host.record(second["id"]).uid or 0, 0o600)
    third = make_spec("other", image={**image, "files": [made[0], {**made[1], **put_image_file(
        control_plane, tmp_path, "uefi-variables", b"of another firmware"
    )}]}, memory_mib=256)  # fmt: skip
    report = obey_really("ensure_running", third)
    assert (report["seen"], report["facts"]["fix_by"]) == ("broken", "operator")
    assert "its image's UEFI settings have 19 bytes" in report["facts"]["problem"]
    control_plane.order("ensure_gone", {"id": work["id"]}, 2, "image")
    host.look_once()
