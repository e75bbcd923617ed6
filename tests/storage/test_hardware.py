"""Which parts of machines go together, and what follows from an import."""

from dataclasses import asdict

import pytest

from storage import hardware, traits
from storage.agent import appliance
from storage.agent.inspection import ovf
from storage.agent.inspection.common import Unfit
from storage.models import Image
from storage.services import exports, images
from storage.workflows.images import learnt
from tests.storage.agent.inspection import hostile

NO_IDE = "The machine type q35 has no IDE: take virtio, virtio SCSI or SATA, or the machine type pc (i440FX)."


@pytest.mark.parametrize(
    ("architecture", "wish", "expected"),
    [
        ("x86_64", {}, "q35 bios virtio virtio"),
        ("x86_64", {"disk_bus": "ide"}, "pc bios ide virtio"),
        ("x86_64", {"disk_bus": "sata", "nic_bus": "e1000", "firmware": "uefi"}, "pc uefi sata e1000"),
        ("x86_64", {"machine_type": "q35", "nic_bus": "e1000"}, "q35 bios virtio e1000"),
        ("x86_64", {"nic_bus": "e1000e"}, "q35 bios virtio e1000e"),
        ("aarch64", {"firmware": "uefi"}, "virt virtio virtio"),
        ("riscv64", {"disk_bus": "scsi"}, "virt scsi virtio"),
    ],
)
def test_what_is_left_open_is_chosen(architecture, wish, expected):
    assert hardware.faults(architecture, wish) == {}
    assert " ".join(hardware.resolve(architecture, wish).words) == expected


@pytest.mark.parametrize(
    ("architecture", "wish", "words"),
    [
        ("x86_64", {"machine_type": "virt"}, {"machine_type": "There is no virt for x86_64: take q35 or pc (i440FX)."}),
        ("x86_64", {"machine_type": "q35", "disk_bus": "ide"}, {
            "disk_bus": NO_IDE
        }),
        ("aarch64", {"firmware": "bios", "disk_bus": "sata", "nic_bus": "e1000"}, {
            "firmware": "There is no BIOS for aarch64: take UEFI.",
            "disk_bus": "The machine type virt has no SATA: take virtio or virtio SCSI.",
            "nic_bus": "The machine type virt has no e1000: take virtio.",
        }),
        ("riscv64", {"firmware": "uefi"}, {
            "firmware": "There is no UEFI for riscv64: it has one of its own, so leave this empty."
        }),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_with_what_can(architecture, wish, words):
    assert hardware.faults(architecture, wish) == words


def test_only_the_parts_that_every_hypervisor_makes_are_plain():
    assert all(hardware.resolve(one, {}).is_plain for one in hardware.MACHINES)
    for wish in ({"machine_type": "pc"}, {"firmware": "uefi"}, {"disk_bus": "scsi"}, {"nic_bus": "e1000e"}):
        assert not hardware.resolve("x86_64", wish).is_plain


@pytest.mark.parametrize(
    ("controller", "nic", "found"),
    [
        ((20, "AHCI"), "E1000", ("sata", "e1000")),  # VirtualBox
        ((20, "vmware.sata.ahci"), "E1000e", ("sata", "e1000e")),
        ((5, "PIIX4"), "PCNet32", ("ide", "rtl8139")),
        ((6, "lsilogic"), "VmxNet3", ("", "")),
    ],
)
def test_an_appliance_says_where_its_disk_and_its_network_are(controller, nic, found):
    kind, model = controller
    items = hostile.item(1, kind, ResourceSubType=model)
    items += hostile.item(2, 17, HostResource="ovf:/disk/vmdisk1", Parent="1") + hostile.item(
        3, 10, ResourceSubType=nic
    )
    machine = ovf.read(hostile.ovf(items=items)).machine
    assert (machine.disk_bus, machine.nic_bus) == found


def test_an_image_takes_over_what_was_found_and_keeps_what_its_owner_said():
    machine = {"firmware": "uefi", "disk_bus": "ide", "nic_bus": "e1000"}
    image = Image(architecture="x86_64", found={"machine": machine}, files=[])
    assert learnt(image) == {"min_disk_gib": 1, **machine}
    image.nic_bus, image.machine_type = "virtio", "q35"  # which has no IDE
    assert learnt(image) == {"min_disk_gib": 1, "firmware": "uefi"}
    image = Image(architecture="aarch64", found={"machine": machine | {"firmware": "bios"}}, files=[])
    assert learnt(image) == {"min_disk_gib": 1}


def come_back(image, **said):
    """An image, as an import of its own OVA makes it; `said`: what its owner says of the import."""
    text = appliance.descriptor(exports._machine(image), [("disk1.vmdk", 1, 512)])
    plan = ovf.read(text.encode())
    assert plan.notes == ()
    again = Image(**{"architecture": "x86_64", **said}, found={"machine": asdict(plan.machine)}, files=[])
    again.source = {"kind": "upload", **images._said(said)}
    for name, value in learnt(again).items():
        setattr(again, name, value)
    return {name: getattr(again, name) for name in traits.NAMES}


@pytest.mark.parametrize(
    "image",
    [
        {"architecture": "x86_64"},
        {"architecture": "x86_64", "os": "windows", "firmware": "uefi", "disk_bus": "sata", "nic_bus": "e1000e"},
        {"architecture": "x86_64", "os": 'Plan 9 & <"more">', "default_user": "glenda", "machine_type": "pc"},
        {"architecture": "aarch64", "machine_type": "virt", "default_user": "debian", "cloud_init": True},
    ],
)
def test_an_image_comes_back_from_its_own_appliance_as_it_was(image):
    image = Image(name="web", **image)
    assert come_back(image) == {name: getattr(image, name) for name in traits.NAMES}


def test_what_is_said_of_an_import_counts_more_than_what_an_appliance_of_ours_says():
    image = Image(name="web", architecture="aarch64", os="debian", default_user="debian", cloud_init=True)
    said = {"os": "linux", "default_user": "root", "cloud_init": False, "disk_bus": "ide"}  # only x86_64 has IDE
    assert come_back(image, **said).items() >= {**said, "architecture": "x86_64"}.items()


def test_what_an_appliance_says_in_our_name_is_judged_like_anything_else():
    hostile_user, long = "root; rm -rf /", "x" * 41
    fields = f'firmware="uefi" disk_bus="floppy" nic_bus="../e1000" architecture="vax" os="{long}" cloud_init="maybe"'
    ours = f'<p:Image xmlns:p="{traits.NAMESPACE}" {fields} default_user="{hostile_user}" more="x"/>'
    plan = ovf.read(hostile.ovf(items=hostile.ITEMS + ours))
    kept = traits.known(asdict(plan.machine))
    assert kept == {"firmware": "uefi"}
    assert len(plan.notes) == 6
    assert f"It says that its image has the default_user '{hostile_user}'. That is not known here" in plan.notes[-2]
    with pytest.raises(Unfit, match="twice"):
        ovf.read(hostile.ovf(items=hostile.ITEMS + ours + ours))


def test_what_a_host_reports_is_judged_again():
    machine = {"os": ["x"], "default_user": "a" * 33, "cloud_init": "yes", "nic_bus": {"a": 1}, "disk_bus": None}
    assert learnt(Image(architecture="x86_64", found={"machine": machine}, files=[])) == {"min_disk_gib": 1}
