"""Health, capacity, and what a cordon of a host would do."""

import re

import pytest
from django.db import connection

from cloud.hosts.models import Allocation
from cloud.operations import checks
from cloud.operations.models import Check
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(page_of, cloud_admin):
    return page_of(cloud_admin)


def test_what_is_broken_has_a_button_that_repairs_it(root, world):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE hosts_host SET free_vcpus = free_vcpus - 1 WHERE id = %s", [world.host.pk])
    checks.look()
    found = Check.objects.get(name="cloud.hosts.invariants.capacity_is_the_sum")
    text = root.get("/cloud/health").content.decode()
    assert "node1: 1 of 32 vcpus allocated, but 30 counted as free" in text
    assert f"/cloud/health/{found.pk}/repair" in text
    assert root.post(f"/cloud/health/{found.pk}/repair").status_code == 303
    assert "Repair requested by root" in root.get("/cloud/health").content.decode()
    checks.look()
    assert "counted as free" not in root.get("/cloud/health").content.decode()


def test_an_instance_in_error_is_linked_with_its_reason(root, world):
    broken = world.settle(world.launch("broken"), "broken")
    text = root.get("/cloud/health").content.decode()
    assert f'href="/projects/demo/instances/{broken.pk}"' in text
    assert "Start tries again; delete works." in text


def test_capacity_is_counted_by_flavor_and_kind_of_image(root, world):
    factories.flavor("vast", memory_mib=99999)
    factories.image("arm", architecture="aarch64")
    text = root.get("/cloud/capacity").content.decode()
    assert '<span class="strong">31</span> <span class="small soft">on 1 host</span>' in text
    assert "aarch64, qemu" in text
    assert text.count('<span class="fault-text">none</span>') == 3
    assert "8 processors are allocated as 32 vCPUs; 1 of them are in use, 0.12 to a processor." in text


def test_a_cordon_says_first_what_it_does(root, world):
    factories.host("node2", vcpus=1, vcpu_overcommit=2)
    answer = root.get(f"/cloud/hosts/{world.host.pk}/cordon", headers={"HX-Target": "dialog-body"})
    text = answer.content.decode()
    assert "The <strong>1</strong> instance on it stays: nothing is moved or stopped" in text
    assert '<td class="num">33</td><td class="num">2</td>' in text


def test_emptying_a_host_is_tried_out_and_leaves_everything_as_it_is(root, world):
    big = factories.flavor("big", memory_mib=3072)
    world.flavor = big
    for name in ("huge-1", "huge-2"):
        world.launch(name)
    factories.host("node2", vcpus=2, vcpu_overcommit=1, memory_mib=4096)
    before = sorted(Allocation.objects.values_list("pk", "host_id"))
    text = root.get(f"/cloud/hosts/{world.host.pk}/cordon?moves").content.decode()
    assert "1 of 3 would find no room." in text
    assert re.findall(r"/instances/[0-9a-f-]+\">([\w-]+)<", text) == ["huge-2", "huge-1", "web"]
    assert text.count('<td data-label="Goes to">node2</td>') == 2
    assert "1 lack memory" in text
    assert sorted(Allocation.objects.values_list("pk", "host_id")) == before
    world.host.refresh_from_db()
    assert world.host.enabled


def test_a_cloud_whose_hosts_take_nothing_is_not_called_well(root, world):
    factories.host("node2", enabled=False)
    nothing = "Nothing can be launched: no host takes new instances"
    assert nothing not in root.get("/cloud/health").content.decode()
    world.host.enabled = False
    world.host.save()
    text = root.get("/cloud/health").content.decode()
    assert nothing in text
    assert text.count("Cordoned by an admin") == 2
    assert "Everything works." not in text


def test_a_cloud_without_hosts_says_how_to_add_one(root):
    text = root.get("/cloud/health").content.decode()
    assert "No machine has joined this cloud yet." in text


def test_checks_are_in_the_order_of_their_numbers(root, world):
    checks.look()
    codes = re.findall(r'<span class="tag nowrap">I(\d+)</span>', root.get("/cloud/health").content.decode())
    assert [int(code) for code in codes] == sorted(int(code) for code in codes)
    assert len(codes) > 15
