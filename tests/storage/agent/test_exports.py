"""Exports: what comes out is what was in, in every format; an OVA can be read by whoever reads OVAs."""

import base64
import hashlib
import io
import os
import subprocess
import tarfile
import uuid
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from storage import traits, uefi
from storage.agent import appliance
from storage.agent.inspection import ovf
from storage.agent.inspection.common import Unfit
from tests.storage.agent.inspection import hostile
from tests.storage.agent.test_images import MANY, ImageHost, identical, open_to_all  # noqa: F401

FORMATS = {"qcow2": "qcow2", "raw": "raw", "vdi": "vdi", "vmdk": "vmdk", "vhdx": "vhdx"}
MACHINE = {"name": "wéb & co", "cpus": 2, "memory_mib": 512, "firmware": "uefi", "nics": 2, "os": "linux"}
IMAGE = {
    "architecture": "x86_64", "os": "linux", "default_user": "debian", "cloud_init": True,
    "firmware": "uefi", "machine_type": "q35", "disk_bus": "sata", "nic_bus": "",
}  # fmt: skip
OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"


@pytest.fixture
def host(control_plane, open_to_all):  # noqa: F811
    return ImageHost(control_plane.url, open_to_all)


@pytest.fixture
def give(host, control_plane, tmp_path):
    """Order an import of some content, or an export of files; the report and the files of the result."""

    def order(source, result, **more):
        spec = {"id": str(uuid.uuid4()), "image": {}, "limits": {"virtual_bytes": MANY}, **more}
        spec |= {"source": source, "declared_format": None, "result": {"format": result}}
        if isinstance(source, bytes):
            path = tmp_path / spec["id"]
            path.write_bytes(source)
            control_plane.files[spec["id"]] = path
            spec["source"] = {"kind": "upload", "size": len(source), "sha256": None}
        control_plane.order("ensure_present", spec, 1, "image")
        host.look_once()
        report = control_plane.last(spec["id"])
        assert report["seen"] == "present", report["facts"]
        results = [control_plane.imported[spec["id"], file["index"]] for file in report["facts"]["files"]]
        return report["facts"], results

    return order


@pytest.fixture
def kept(control_plane, tmp_path):
    """Put results into the store, where hosts find them; the source of an export."""

    def keep(facts, results):
        for file, content in zip(facts["files"], results, strict=True):
            path = tmp_path / file["sha256"]
            path.write_bytes(content)
            control_plane.files[file["sha256"]] = path
        return {"kind": "files", "files": facts["files"]}

    return keep


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A disk with something in it, as qcow2."""
    folder = tmp_path_factory.mktemp("disk")
    raw, made = folder / "raw", folder / "made"
    raw.write_bytes(b"\xeb\x3c" + bytes(508) + b"\x55\xaa" + os.urandom(1 << 20) + bytes((7 << 20) - 512))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, made], check=True)
    return made


@pytest.mark.parametrize("format_", FORMATS)
def test_a_disk_goes_round_by_every_format_and_is_the_same(format_, give, kept, disk, tmp_path):
    source = kept(*give(disk.read_bytes(), "qcow2"))
    facts, (exported,) = give(source, format_)
    assert facts["files"][0]["role"] == "export"
    assert facts["files"][0]["sha256"] == hashlib.sha256(exported).hexdigest()
    assert identical(disk, "qcow2", exported, FORMATS[format_], tmp_path)
    _, (again,) = give(exported, "qcow2")
    assert identical(disk, "qcow2", again, "qcow2", tmp_path)


def test_an_appliance_goes_round_with_all_of_its_disks(give, kept, disk, tmp_path):
    first = give(disk.read_bytes(), "qcow2")
    second = give(hostile.sound("vdi"), "qcow2")
    both = [*first[0]["files"], {**second[0]["files"][0], "index": 1}]
    source = kept({"files": both}, [*first[1], *second[1]])
    facts, (exported,) = give(source, "ova", machine={**MACHINE, "image": IMAGE})
    assert [file["format"] for file in facts["files"]] == ["ova"]
    found, results = give(exported, "qcow2")
    assert found["found"]["machine"] == {**MACHINE, **IMAGE}
    assert found["found"]["notes"] == []  # its manifest was there, and right
    assert identical(disk, "qcow2", results[0], "qcow2", tmp_path)
    other = tmp_path / "second"
    other.write_bytes(second[1][0])
    assert identical(other, "qcow2", results[1], "qcow2", tmp_path)


def test_an_appliance_has_what_uefi_keeps(give, kept, disk):
    """A system whose loader only an entry there names would not be started without it."""
    settings = b"entries" + b"\xff" * 540_000
    facts, results = give(disk.read_bytes(), "qcow2")
    more = {"role": uefi.ROLE, "index": 1, "format": "raw"}
    more |= {"sha256": hashlib.sha256(settings).hexdigest(), "size": len(settings)}
    source = kept({"files": [*facts["files"], more]}, [*results, settings])
    _, (exported,) = give(source, "ova", machine={**MACHINE, "image": IMAGE})
    assert len(exported) < len(results[0]) + 100_000
    found, again = give(exported, "qcow2")
    assert [file["role"] for file in found["files"]] == ["disk", uefi.ROLE]
    assert again[1] == settings
    assert found["found"]["notes"] == []
    assert "uefi" not in found["found"]["machine"]
    _, (other,) = give(source, "ova", machine=MACHINE)  # by a control plane of before, which says nothing of its image
    assert [file["role"] for file in give(other, "qcow2")[0]["files"]] == ["disk"]


def descriptor(settings):
    machine = {**MACHINE, "image": IMAGE, "uefi": settings}
    return appliance.descriptor(machine, [("disk.vmdk", 1 << 20, 1 << 20)]).encode()


@pytest.mark.parametrize(
    "settings",
    [
        "no base64", "AAAA", uefi.to_text(b"x" * 1000)[:-8], uefi.to_text(b"x") + uefi.to_text(b"x"),
        base64.b64encode(zlib.compress(bytes(uefi.MAX_BYTES + 1))).decode(), "A" * (uefi.MAX_TEXT + 4),
        base64.b64encode(zlib.compress(b"")).decode(),
    ],
    ids=["letters", "bytes", "cut", "twice", "bomb", "long", "empty"],
)  # fmt: skip
def test_what_uefi_never_keeps_is_refused(settings):
    assert ovf.read(descriptor(uefi.to_text(b"x"))).uefi
    with pytest.raises(Unfit, match="Its UEFI settings are damaged"):
        ovf.read(descriptor(settings))


def test_an_archive_is_laid_out_as_the_standard_wants_it(give, kept, disk):
    _, (exported,) = give(kept(*give(disk.read_bytes(), "qcow2")), "ova", machine=MACHINE)
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        names = archive.getnames()
        assert names == ["w-b-co.ovf", "w-b-co.mf", "w-b-co-disk1.vmdk"]
        content = {name: archive.extractfile(name).read() for name in names}
        assert all(member.isreg() and member.uid == 0 for member in archive.getmembers())
    for line in content["w-b-co.mf"].decode().splitlines():
        name, value = line.removeprefix("SHA256(").split(")= ")
        assert hashlib.sha256(content[name]).hexdigest() == value
    assert content["w-b-co-disk1.vmdk"][:4] == b"KDMV"
    assert b'createType="streamOptimized"' in content["w-b-co-disk1.vmdk"][:2048]


def test_a_descriptor_has_everything_in_its_order():
    text = appliance.descriptor(MACHINE, [(f"d{number}.vmdk", 100, 1 << 30) for number in range(9)])
    root = ElementTree.fromstring(text)
    assert [child.tag for child in root] == [
        f"{OVF}{name}" for name in ("References", "DiskSection", "NetworkSection", "VirtualSystem")
    ]
    items = root.findall(f".//{OVF}Item")
    for item in items:
        names = [child.tag.removeprefix(RASD) for child in item]
        assert names == sorted(names)
        assert {"ElementName", "InstanceID", "ResourceType"} <= set(names)
    numbers = [item.findtext(f"{RASD}InstanceID") for item in items]
    assert len(set(numbers)) == len(numbers)
    addresses = [
        item.findtext(f"{RASD}AddressOnParent") for item in items if item.find(f"{RASD}HostResource") is not None
    ]
    assert addresses == ["0", "1", "2", "3", "4", "5", "6", "8", "9"]
    plan = ovf.read(text.encode())
    assert (plan.machine.cpus, plan.machine.memory_mib, plan.machine.firmware, plan.machine.nics) == (2, 512, "uefi", 2)
    assert len(plan.disks) == 9


def test_what_is_ours_in_a_descriptor_is_where_the_schema_lets_others_pass_over_it():
    """A section of hardware ends with elements of other namespaces, each of which may say that it need not be known."""
    text = appliance.descriptor({**MACHINE, "image": IMAGE}, [("d.vmdk", 100, 1 << 30)])
    section = ElementTree.fromstring(text).find(f".//{OVF}VirtualHardwareSection")
    names = [child.tag for child in section]
    others = [child for child in section if not child.tag.startswith(OVF)]
    assert names == [f"{OVF}Info", f"{OVF}System", *[f"{OVF}Item"] * 6, *(child.tag for child in others)]
    assert {child.get(f"{OVF}required") for child in others} == {"false"}
    assert names[-1] == traits.ELEMENT
    # Without our element it is the descriptor that others get, to the letter.
    plain = appliance.descriptor(MACHINE, [("d.vmdk", 100, 1 << 30)])
    assert [line for line in text.splitlines() if "<pileus:" not in line] == plain.splitlines()


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "名前", "a" * 200, "<x>&\"'", "-rf"])
def test_a_tenants_name_is_harmless_in_an_archive(name):
    assert "/" not in appliance.file_name(name)
    assert 0 < len(appliance.file_name(name)) <= 60
    machine = {**MACHINE, "name": name}
    assert ElementTree.fromstring(appliance.descriptor(machine, [("d.vmdk", 1, 512)])).findtext(f".//{OVF}Name") == name


def test_what_cannot_be_exported_is_said(host, control_plane):
    spec = {"id": str(uuid.uuid4()), "limits": {"virtual_bytes": MANY}, "source": {"kind": "files", "files": []}}
    for generation, (format_, words) in enumerate((("exe", "are not exported as exe"), ("raw", "has no disk")), 1):
        control_plane.order("ensure_present", {**spec, "result": {"format": format_}}, generation, "image")
        host.look_once()
        assert words in control_plane.last(spec["id"])["facts"]["problem"]
    assert list(Path(host.images.directory).iterdir()) == []
