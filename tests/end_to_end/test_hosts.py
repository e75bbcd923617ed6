"""Two hosts that share a network, with guests under both hypervisors, as their owner and the world outside see them."""

import os
import select
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.clouds import wait_until
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
def demo(rack):
    return Tenant(rack, "demo")


@pytest.fixture(scope="module")
def guests(rack, demo):
    """One of each hypervisor in one network, each on a host of its own."""
    made = [demo.launch("a", rack.hosts[0], "x86_64"), demo.launch("b", rack.hosts[1], "riscv64")]
    return [guest.wait_until_up() for guest in made]


def test_guests_of_both_hypervisors_reach_each_other_across_hosts(guests):
    a, b = guests
    assert a.pings(b.address)
    assert b.pings(a.address)
    assert b.pings("a.default.internal")


def test_a_floating_ip_follows_to_a_machine_of_another_host(rack, demo, guests):
    """The one by which `a` was reached: it leads to `b`, and back again."""
    a, b = guests
    rack.post(f"{demo.path}/floating-ips/b/disassociate")
    for guest in (b, a):
        rack.post(f"{demo.path}/floating-ips/a/associate", instance=guest.name)
        wait_until(lambda name=guest.name: a.hostname() == name, 90, 0.5, guest.name, rack.logs)
    rack.post(f"{demo.path}/floating-ips/b/associate", instance="b")
    b.wait_until_up()


def test_connections_survive_the_death_of_the_agents_processes(rack, guests):
    a, b = guests
    host = rack.hosts[0]
    with subprocess.Popen(a.ssh("cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as talk:

        def answers(word: bytes) -> bool:
            talk.stdin.write(word)
            return bool(select.select([talk.stdout], [], [], 60)[0]) and talk.stdout.readline() == word

        try:
            assert answers(b"before\n")
            host.kill("network", "worker")
            assert answers(b"meanwhile\n")
            host.start()
            wait_until(host.has_networks, 60, 0.1, "the network process answers", rack.logs)
            assert answers(b"after\n")
        finally:
            talk.kill()
    assert b.pings(a.address)


def test_an_instance_moves_to_another_host_with_what_is_on_its_disks(rack, demo, guests):
    """Its workers die on the way. Afterwards it is reached at the same address, with the same bytes on its volume."""
    a, b = guests
    rack.post(f"{demo.path}/volumes", name="data", size_gib=1)
    rack.post(f"{a.path}/attach-volume", volume="data")
    # Without the test, what is written before the volume is there makes a file of that name.
    write = "test -b /dev/vdb && dd if=/dev/urandom of=/dev/vdb bs=1M count=8 2>/dev/null && sync && echo written"
    wait_until(lambda: a.run(write).stdout.strip() == "written", 90, 1, "the volume is there", rack.logs)
    total = "head -c 8388608 /dev/vdb | sha256sum"
    before, address = a.output(total), a.address
    assert len(before.split()[0]) == 64
    rack.post(f"{a.path}/stop")
    wait_until(lambda: rack.get(a.path)["status"] == "stopped", 90, 0.5, "it has stopped", rack.logs)
    rack.post(f"{a.path}/move", host="host2")
    for host in rack.hosts:
        host.kill("worker")
        host.start("worker")
    moved = {"host": "host2", "operation": None}
    wait_until(
        lambda: {"host": rack.get(a.path)["host"]["name"], "operation": rack.get(a.path)["operation"]} == moved,
        180, 0.5, "it has moved", rack.logs,
    )  # fmt: skip
    rack.post(f"{a.path}/start")
    a.wait_until_up()
    assert (a.output(total), a.address) == (before, address)
    assert b.pings(a.address)
