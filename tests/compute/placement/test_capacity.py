"""How many more fit, compared with placing them until nothing fits."""

import random
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from cloud.hosts.models import Host, HostPulse
from compute.models import Instance
from compute.placement import capacity
from compute.placement.choose import choose
from tests import factories

pytestmark = pytest.mark.django_db


def place_until_full(project, flavor, image) -> int:
    """Instances that placement finds room for, one after the other; taken back afterwards."""
    block = transaction.atomic()
    block._from_testcase = True
    with block:
        count = 0
        while True:
            instance = Instance.objects.create(
                project=project, name=f"{flavor.name}-{count}", flavor=flavor, vcpus=flavor.vcpus, image=image,
                memory_mib=flavor.memory_mib, disk_gib=flavor.disk_gib, created_by="mia",
            )  # fmt: skip
            if choose(instance).host_id is None:
                transaction.set_rollback(True)
                break
            count += 1
    return count


def test_what_fits_is_what_can_be_placed(project):
    chance = random.Random(7)
    for number in range(12):
        factories.host(
            f"node{number}", vcpus=chance.randint(1, 4), vcpu_overcommit=chance.choice([1, 1.5, 4]),
            memory_mib=chance.randint(1, 9) * 700, disk_gib=chance.randint(1, 40), enabled=number != 3,
            quarantined="" if number != 4 else "why", accelerated=number % 2 == 0,
            offers=[["qemu/x86_64", "qemu/x86_64/tcg"], ["qemu/aarch64", "qemu/aarch64/tcg"], ["unicorn/riscv64"]][
                number % 3
            ],
        )  # fmt: skip
    HostPulse.objects.filter(host__name="node0").update(seen_at=Now() - timedelta(hours=1))
    Host.objects.filter(name="node6").update(free_memory_mib=-5)
    images = {
        "x86_64": factories.image("intel"),
        "aarch64": factories.image("arm", architecture="aarch64"),
        "riscv64": factories.image("risc", architecture="riscv64", hypervisors=["unicorn", "qemu"]),
    }
    sizes = ((1, 256, 1), (1, 700, 3), (2, 1400, 2), (3, 2000, 9), (1, 64, 20))
    for index, (vcpus, memory_mib, disk_gib) in enumerate(sizes):
        factories.flavor(f"f{index}", vcpus=vcpus, memory_mib=memory_mib, disk_gib=disk_gib)
    factories.flavor("hidden", enabled=False)
    found = capacity.fits()
    assert len(found) == len(sizes)
    counts = [(fit.count, place_until_full(project, flavor, images[fit.kind.architecture]))
              for flavor, fits in found for fit in fits]  # fmt: skip
    assert [said for said, _ in counts] == [really for _, really in counts]
    assert sum(said for said, _ in counts) > 20


def test_sums_promise_more_than_fits(api, cloud_admin):
    for _ in range(4):
        factories.host(vcpus=8, memory_mib=1000, disk_gib=100)
    factories.flavor("big", vcpus=1, memory_mib=1500)
    factories.image("tiny")
    answer = api.as_(cloud_admin).get("capacity").json()
    assert answer["memory_mib"] == {"whole": 4000, "used": 0, "free": 4000, "out_of_service": 0}
    assert answer["vcpus"] == {"whole": 128, "used": 0, "free": 128, "out_of_service": 0, "real": 32}
    assert answer["flavors"][0]["fits"] == [{"architecture": "x86_64", "hypervisors": ["qemu"], "count": 0, "hosts": 0}]


def test_without_a_host_its_room_is_missing(project):
    first, _ = factories.host(vcpus=1, vcpu_overcommit=1), factories.host(vcpus=2, vcpu_overcommit=1)
    factories.flavor("small")
    factories.image("tiny")
    ((_, (whole,)),) = capacity.fits()
    ((_, (rest,)),) = capacity.fits(without=first.pk)
    assert (whole.count, whole.hosts, rest.count, rest.hosts) == (3, 2, 2, 1)


def test_ten_thousand_hosts_and_twenty_flavors_are_counted_at_once(db):
    factories.image("tiny")
    for number in range(20):
        factories.flavor(vcpus=1 + number % 4, memory_mib=256 * (1 + number))
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO hosts_host (id, name, labels, enabled, vcpus, memory_mib, disk_gib, vcpu_overcommit, free_vcpus,
                free_memory_mib, free_disk_gib, offers, accelerated, capabilities, boot_id, quarantined, token_digest,
                redis_password_digest, created_at)
            SELECT gen_random_uuid(), 'host-' || n, '{}', true, 8 + n %% 9, 16384 + n %% 1000, 500, 4, 0, 0, 0,
                '{qemu/x86_64}', false, '{}', '', '', 'digest-' || n, '', now() FROM generate_series(1, 10000) n
            """.replace("%%", "%")
        )
        cursor.execute("INSERT INTO hosts_hostpulse (host_id, seen_at, agent_version, inventory) "
                       "SELECT id, now(), '', '[]' FROM hosts_host")  # fmt: skip
        cursor.execute("ANALYZE hosts_host")  # or foreign keys are checked as if it were still empty
    began = time.perf_counter()
    found = capacity.fits()
    took = time.perf_counter() - began
    assert found[0][1][0].hosts == 10000
    assert took < 2  # 0.1 s on an idle machine
    print(f"{took:.3f} s")
