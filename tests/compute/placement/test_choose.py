"""Choosing a host, and explaining the choice, on a real PostgreSQL."""

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connections, transaction
from django.db.models import F
from django.db.models.functions import Now

from cloud.hosts.invariants import capacity_is_the_sum
from cloud.hosts.models import Allocation, Host, HostPulse
from compute.models import Flavor, Instance
from compute.placement import choose
from compute.placement.explain import explain, fits_an_empty_host
from compute.placement.rules import Wish
from tests import factories

pytestmark = pytest.mark.django_db


def placed(instance):
    choose.place(instance)
    return instance.host and Host.objects.get(pk=instance.host_id).name


def test_the_fullest_host_that_fits_is_chosen(make_host, make_instance):
    make_host("roomy", vcpus=16)
    make_host("snug", vcpus=4)
    make_host("full", vcpus=1)
    assert placed(make_instance()) == "snug"


def test_spreading_is_a_setting(make_host, make_instance, settings):
    settings.PLACEMENT_STRATEGY = "spread"
    make_host("roomy", vcpus=16)
    make_host("snug", vcpus=4)
    assert placed(make_instance()) == "roomy"


def test_hardware_virtualisation_is_preferred_to_emulation(make_host, make_instance):
    make_host("emulating", vcpus=4)
    make_host("virtualising", vcpus=64, offers=["qemu/x86_64", "qemu/x86_64/kvm"], accelerated=True)
    instance = make_instance()
    assert placed(instance) == "virtualising"
    assert instance.placement["accelerator"] == "kvm"


@pytest.mark.parametrize(
    ("wish", "vcpus", "where", "under"),
    [
        ("", 1, "with-qemu", "qemu"),
        ("qemu", 1, "with-qemu", "qemu"),
        ("unicorn", 1, "without-qemu", "unicorn"),
        ("", 2, "with-qemu", "qemu"),
        ("unicorn", 2, None, ""),
    ],
)
def test_a_wish_or_else_the_images_order_decides_on_the_hypervisor(make_host, make_instance, wish, vcpus, where, under):
    make_host("with-qemu", offers=["qemu/riscv64", "qemu/riscv64/tcg"])
    make_host("without-qemu", offers=["unicorn/riscv64", "unicorn/riscv64/tcg"])
    image = factories.image("riscv", architecture="riscv64", hypervisors=["qemu", "unicorn"])
    instance = make_instance(image=image, hypervisor_wish=wish, vcpus=vcpus)
    assert placed(instance) == where
    assert instance.hypervisor == under


def test_where_there_is_only_the_embedded_emulator_it_is_taken_without_being_asked_for(make_host, make_instance):
    make_host("without-qemu", offers=["unicorn/riscv64", "unicorn/riscv64/tcg"])
    image = factories.image("riscv", architecture="riscv64", hypervisors=["qemu", "unicorn"])
    assert placed(make_instance(image=image, vcpus=1)) == "without-qemu"
    assert placed(make_instance(image=image, vcpus=1, memory_mib=2048)) is None
    bound = make_instance(image=image, vcpus=2, hypervisor_wish="unicorn")
    assert "1 cannot run a machine of this size" in explain(Wish.of(bound)).summary


def test_without_leave_to_emulate_only_hosts_with_kvm_are_chosen(make_host, make_instance, settings):
    settings.ALLOW_EMULATION = False
    make_host("emulating")
    instance = make_instance()
    assert placed(instance) is None
    wish = Wish.of(instance)
    assert "1 without KVM" in explain(wish).summary
    assert not fits_an_empty_host(wish)
    make_host("virtualising", offers=["qemu/x86_64", "qemu/x86_64/kvm"], accelerated=True)
    assert placed(instance) == "virtualising"


@pytest.mark.parametrize(
    "unfit",
    [
        {"enabled": False},
        {"quarantined": "odd"},
        {"offers": ["qemu/aarch64"]},
        {"vcpus": 1},
        {"memory_mib": 1000},
        {"disk_gib": 9},
    ],
)
def test_a_host_that_lacks_anything_is_not_chosen(unfit, make_host, make_instance):
    make_host("unfit", **unfit)
    assert placed(make_instance()) is None


def test_a_silent_host_is_not_chosen(make_host, make_instance, settings):
    host = make_host()
    HostPulse.objects.filter(host=host).update(seen_at=Now() - timedelta(seconds=60))
    assert placed(make_instance()) is None


def test_free_capacity_follows_allocations_and_capacity(make_host, make_instance):
    host = make_host(vcpus=8, vcpu_overcommit=2.0)
    instance = make_instance()
    choose.place(instance)
    host.refresh_from_db()
    assert (host.free_vcpus, host.free_memory_mib, host.free_disk_gib) == (14, 7168, 90)
    Host.objects.update(vcpus=4, memory_mib=512)
    host.refresh_from_db()
    assert (host.free_vcpus, host.free_memory_mib) == (6, -512)
    Allocation.objects.all().delete()
    host.refresh_from_db()
    assert (host.free_vcpus, host.free_memory_mib, host.free_disk_gib) == (8, 512, 100)
    assert list(capacity_is_the_sum()) == []


def test_nobody_can_overbook_a_host(make_host, make_instance):
    host = make_host(vcpus=1)
    instance = make_instance()
    with pytest.raises(IntegrityError, match="no room"), transaction.atomic():
        Allocation.objects.create(
            resource_type="instance", resource_id=instance.pk, host=host, vcpus=2, memory_mib=1, disk_gib=1
        )


def test_verify_sees_and_repairs_a_wrong_sum(make_host):
    host = make_host()
    Host.objects.update(free_vcpus=F("free_vcpus") + 1)
    (breach,) = capacity_is_the_sum()
    assert breach.subject_id == str(host.pk)
    breach.repair()
    assert list(capacity_is_the_sum()) == []


def test_a_failure_is_explained_in_sums_and_words(make_host, make_instance):
    make_host("small", memory_mib=512)
    make_host("drained", enabled=False)
    Flavor.objects.create(name="micro", vcpus=1, memory_mib=256, disk_gib=1)
    Flavor.objects.create(name="milli", vcpus=1, memory_mib=512, disk_gib=1)
    explanation = explain(Wish.of(make_instance()))
    assert explanation.summary == (
        "0 of 2 hosts fit: 1 not in service, 1 lack memory (largest free block 512 MiB, asked 1024)."
        " The flavor milli would fit."
    )
    assert "hosts" not in explanation.for_tenant()
    checks = {row["host"]["name"]: row for row in explanation.for_admin()["hosts"]}["small"]["checks"]
    memory = next(check for check in checks if check["rule"] == "memory")
    assert memory == {"rule": "memory", "ok": False, "need": "1024 MiB", "have": "512 MiB"}


def test_without_hosts_the_words_say_so(make_instance):
    assert explain(Wish.of(make_instance())).summary.startswith("There are no hosts yet.")


@pytest.mark.django_db(transaction=True)
def test_forty_parallel_launches_fill_exactly_what_fits(make_host, make_instance):
    make_host(vcpus=12)
    make_host(vcpus=8)
    instances = [make_instance() for _ in range(40)]
    errors = []

    def work(instance):
        try:
            with transaction.atomic():
                choose.place(Instance.objects.select_for_update().select_related("image").get(pk=instance.pk))
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(instance,)) for instance in instances]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Instance.objects.filter(machine__isnull=False).count() == 10
    assert list(Host.objects.values_list("free_vcpus", flat=True)) == [0, 0]
    assert list(capacity_is_the_sum()) == []


def offering(*words):
    return {"hypervisors": {"qemu": {"architectures": {"x86_64": {"hardware": list(words)}}}}}


def test_only_a_host_with_the_parts_of_a_machine_is_taken(make_host, make_instance):
    make_host("plain", vcpus=2)
    make_host("bios", vcpus=4, capabilities=offering("q35", "bios", "sata", "virtio"))
    uefi = make_instance(hardware={"firmware": "uefi", "disk_bus": "sata"}, vcpus=1)
    assert placed(uefi) is None
    assert not fits_an_empty_host(Wish.of(uefi))
    found = explain(Wish.of(uefi))
    assert found.summary == "0 of 2 hosts fit: 2 without q35, UEFI, SATA, virtio."
    assert {check["have"] for host in found.hosts for check in host["checks"] if check["rule"] == "hardware"} == {
        "nothing",
        "q35, bios, sata, virtio",
    }
    make_host("able", vcpus=8, capabilities=offering("q35", "bios", "uefi", "sata", "virtio"))
    assert placed(uefi) == "able"
    assert placed(make_instance(hardware={"disk_bus": "sata"}, vcpus=1)) == "bios"
    assert placed(make_instance(hardware={"firmware": "bios"}, vcpus=1)) == "plain"


def test_the_embedded_emulator_gets_no_machines_of_old_parts(make_host, make_instance):
    make_host("without-qemu", offers=["unicorn/riscv64", "unicorn/riscv64/tcg"])
    image = factories.image("riscv", architecture="riscv64", hypervisors=["qemu", "unicorn"])
    assert placed(make_instance(image=image, vcpus=1, hardware={"disk_bus": "scsi"})) is None
    assert placed(make_instance(image=image, vcpus=1, hardware={"disk_bus": "virtio"})) == "without-qemu"
