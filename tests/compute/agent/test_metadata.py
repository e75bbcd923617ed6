"""What a machine reads of itself over its network: the pages, and a real guest that reads them."""

import json
from dataclasses import replace

import pytest

from agent.errors import NoAnswer
from compute.agent import host_keys, metadata, nics
from tests.compute.agent.test_qemu import (  # noqa: F401
    boot,
    console,
    host,
    linux_spec,
    obey_really,
    tiny_linux,
    wait_for_line,
)
from tests.hosts import make_spec
from tests.network.agent import lab
from tests.network.agent.conftest import make_host  # noqa: F401

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0 anna@laptop"
NIC = {
    "port": "55555555-0000-4000-8000-000000000001", "network": "66666666-0000-4000-8000-000000000001",
    "mac": "52:54:00:00:00:01", "mtu": 1442, "addresses": ["10.0.0.5/24", "fd00::5/64"], "gateway": "10.0.0.1",
    "dns": [],
}  # fmt: skip


def test_every_tree_has_what_its_readers_need():
    spec = make_spec("web", nics=[NIC])
    spec["seed"] |= {"ssh_authorized_keys": [KEY], "user_data": "#!/bin/sh\n"}
    pages = metadata.pages(spec)
    about = json.loads(pages["openstack/latest/meta_data.json"])
    assert (about["uuid"], about["hostname"], about["public_keys"]) == (spec["id"], "web", {"key-0": KEY})
    network = json.loads(pages["openstack/latest/network_data.json"])
    assert [link["ethernet_mac_address"] for link in network["links"]] == [NIC["mac"]]
    assert [each["type"] for each in network["networks"]] == ["ipv4_dhcp", "ipv6_dhcpv6-stateful"]
    alone = metadata.network_data([NIC | {"dhcp6": False}])
    assert [each["type"] for each in alone["networks"]] == ["ipv4_dhcp", "ipv6_slaac"]
    assert pages["openstack/latest/user_data"] == pages["latest/user-data"] == "#!/bin/sh\n"
    assert pages["latest/meta-data/instance-id"] == spec["id"]
    assert pages["latest/meta-data/local-ipv4"] == "10.0.0.5"
    assert pages["latest/meta-data/public-keys/0/openssh-key"] == KEY
    of_nic = f"latest/meta-data/network/interfaces/macs/{NIC['mac']}"
    assert pages[f"{of_nic}/local-ipv4s"] == "10.0.0.5"
    assert pages[f"{of_nic}/subnet-ipv4-cidr-block"] == "10.0.0.0/24"
    assert pages[f"{of_nic}/ipv6s"] == "fd00::5"
    assert json.loads(pages["latest/dynamic/instance-identity/document"])["privateIp"] == "10.0.0.5"
    assert pages["nocloud/user-data"] == "#!/bin/sh\n"


def test_without_user_data_or_keys_there_are_no_such_pages():
    pages = metadata.pages(make_spec("web", nics=[NIC]))
    assert not [path for path in pages if "user_data" in path or path == "latest/user-data" or "public-keys" in path]


def test_the_host_key_of_a_machine_is_not_for_every_program_in_it():
    spec = make_spec("web", nics=[NIC])
    key = host_keys.make()
    assert not [text for text in metadata.pages(spec).values() if key.private in text or "PRIVATE" in text]


@pytest.mark.vm
def test_a_real_guest_reads_its_own(host, obey_really, linux_spec, make_host):  # noqa: F811
    networks = make_host(0)
    network = lab.network(networks, tiny="10.0.0.10")
    networks.apply(network)
    (port,) = network["ports"]
    nic = NIC | {"port": port["id"], "mac": port["mac"], "addresses": ["10.0.0.10/24"], "mtu": 1500}
    script = (
        "#!/bin/sh\n"
        "wget -q -O - http://169.254.169.254/openstack/latest/meta_data.json > /dev/console\n"
        "wget -q -O - http://169.254.169.254/latest/meta-data/instance-id || echo TOKENS ONLY > /dev/console\n"
    )
    spec = {**linux_spec, "nics": [nic], "seed": {**linux_spec["seed"], "user_data": script}}
    host.machines.tools = replace(host.machines.tools, plugs=networks.client)
    boot(host, obey_really, spec)
    wait_for_line(host, spec, b"READY tiny")
    said = console(host, spec)
    assert f'"uuid": "{spec["id"]}"'.encode() in said
    assert b"TOKENS ONLY" in said


class Plugs:
    """Notes what it is told, or does not answer."""

    def __init__(self, answers: bool = True) -> None:
        self.answers = answers
        self.told: list[tuple[str, str]] = []

    def plug(self, port: str, headers: bool) -> int:
        raise NotImplementedError

    def introduce(self, port: str, pages: dict[str, str]) -> None:
        self.told.append(("introduce", port))

    def unplug(self, port: str) -> None:
        if not self.answers:
            raise NoAnswer("the network process has ended")
        self.told.append(("unplug", port))


def test_a_machine_that_goes_leaves_nothing_to_read_and_goes_whatever_else_does_not_work():
    plugs = Plugs()
    nics.unplug(make_spec("web", nics=[NIC]), plugs)
    assert plugs.told == [("unplug", NIC["port"])]
    nics.unplug({}, plugs)  # as an order says it that carries no spec
    nics.unplug(make_spec("web", nics=[NIC]), Plugs(answers=False))
