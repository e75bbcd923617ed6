"""Two hosts that share a network, with guests under both hypervisors, as their owner and the world outside see them."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.end_to_end.rack import POOL, Rack, Tenant

pytestmark = [
    pytest.mark.vm,
    pytest.mark.django_db,  # for its schema
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make the hosts"),
]


@pytest.fixture(scope="module")
def rack(tiny_linux, riscv_linux, django_db_setup, django_db_blocker):
    with tempfile.TemporaryDirectory(prefix="r-", ignore_cleanup_errors=True) as name, django_db_blocker.unblock():
        folder = Path(name)
        folder.chmod(0o755)
        rack = Rack(folder)
        try:
            with rack.running([tiny_linux, riscv_linux]):
                rack.add_hosts(2)
                rack.post("/address-pools", name="outside", cidr=POOL)
                yield rack
        finally:
            rack.close()


@pytest.fixture(scope="module")
def guests(rack):
    """One of each hypervisor in one network, each on a host of its own."""
    tenant = Tenant(rack, "demo")
    made = [tenant.launch("a", rack.hosts[0], "x86_64"), tenant.launch("b", rack.hosts[1], "riscv64")]
    return [guest.wait_until_up() for guest in made]


def test_guests_of_both_hypervisors_reach_each_other_across_hosts(rack, guests):
    a, b = guests
    assert a.pings(b.address)
    assert b.pings(a.address)
    assert b.pings("a.default.internal")
