"""Hosts, flavors and images for tests of placement and of instances."""

import itertools

import pytest
from django.db.models.functions import Now

from cloud.hosts.models import Host, HostPulse
from cloud.tenancy.models import Project, Quota
from compute.models import Flavor, Instance
from tests import factories

numbers = itertools.count(1)


@pytest.fixture
def make_host(db):
    def make(name="", *, vcpus=8, memory_mib=8192, disk_gib=100, offers=("qemu/x86_64", "qemu/x86_64/tcg"), **fields):
        number = next(numbers)
        host = Host.objects.create(
            name=name or f"host{number}",
            vcpus=vcpus,
            memory_mib=memory_mib,
            disk_gib=disk_gib,
            offers=list(offers),
            token_digest=f"{number:064}",
            redis_password_digest=f"{number:064}",
            **{"vcpu_overcommit": 1.0, **fields},
        )
        HostPulse.objects.create(host=host, seen_at=Now())
        host.refresh_from_db()
        return host

    return make


@pytest.fixture
def flavor(db):
    return Flavor.objects.create(name="small", vcpus=2, memory_mib=1024, disk_gib=10)


@pytest.fixture
def image(db):
    return factories.image("tiny-linux")


@pytest.fixture
def tenant(db):
    project = Project.objects.create(name=f"tenant{next(numbers)}")
    Quota.objects.create(project=project)
    return project


@pytest.fixture
def make_instance(tenant, flavor, image):
    def make(**fields):
        values = {"vcpus": flavor.vcpus, "memory_mib": flavor.memory_mib, "disk_gib": flavor.disk_gib, "image": image}
        values |= {"name": f"vm{next(numbers)}"}
        return Instance.objects.create(project=tenant, flavor=flavor, created_by="alice", **values | fields)

    return make
