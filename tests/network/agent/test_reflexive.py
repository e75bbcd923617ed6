"""On a kernel that tracks no flows of bridges, security groups, names and metadata mean the same."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from network.agent import probe
from tests.network.agent import frames, lab
from tests.network.agent.test_ipv6 import (  # noqa: F401
    led,
    test_names_and_metadata_are_there_by_ipv6_too,
    test_networks_of_one_router_reach_each_other_by_ipv6,
)
from tests.network.agent.test_metadata import test_each_guest_reads_its_own_by_every_tree, two  # noqa: F401
from tests.network.agent.test_process import test_flows_survive_a_restart_of_the_process  # noqa: F401
from tests.network.agent.test_routers import (  # noqa: F401
    closing,
    test_networks_of_one_router_reach_each_other_if_the_groups_say_so,
)
from tests.network.agent.test_security_groups import (  # noqa: F401
    pair,
    test_a_guest_that_leaves_a_group_loses_its_flows,
    test_answers_pass_and_a_revoked_rule_cuts_the_flow,
    test_members_of_a_group_let_each_other_in,
    test_nothing_comes_in_unless_a_rule_says_so,
    test_what_may_go_out_is_ruled_too,
)
from tests.network.agent.test_spoofing import guests, test_no_lie_arrives  # noqa: F401

# The kernel that the probe sees tracks nothing. Everything behind the probe is the real one.
HIDDEN = """
import types
from network.agent import nft, probe
def run(script):
    if "ct state" in script:
        raise nft.Refused("hidden")
    return nft.run(script)
probe.nft = types.SimpleNamespace(run=run, available=nft.available, Refused=nft.Refused)
from agent.cli import main
main()
"""


class PlainHost(lab.Host):
    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", HIDDEN, *super().command[3:]]


@pytest.fixture(scope="module", params=[0, lab.NOBODY], ids=["root", "user"])
def plain_host(request, make_shared_host: Callable[[int], lab.Host], tmp_path_factory) -> Iterator[lab.Host]:
    directory = Path(make_shared_host(request.param).runtime).parent
    host = PlainHost(directory / f"plain{request.param}", request.param)
    yield host
    host.close()


@pytest.fixture
def host(plain_host: lab.Host) -> Iterator[lab.Host]:
    yield plain_host
    for type in ("router", "network"):
        for each in plain_host.client.inventory()["resources"]:
            if each["type"] == type:
                plain_host.client.remove(type, each["id"])


def test_the_host_says_what_its_kernel_lacks(host):
    said = host.client.capabilities()
    assert (said["networks"], said["tracking"]) == (True, "reflexive")
    assert "load the module nf_conntrack_bridge" in said["missing"]["tracking"]


def test_where_not_even_that_works_there_are_no_networks(monkeypatch):
    def run(script: str) -> str:
        if "ct state" in script or "update" in script:
            raise probe.nft.Refused("hidden")
        return ""

    monkeypatch.setattr(probe.nft, "run", run)
    missing: dict[str, str] = {}
    assert probe._tracking(missing) == ""
    assert "tracks no flows" in missing["tracking"]


def test_answers_pass_and_nothing_else_does(host):
    _, a, b = pair(host, lab.ingress("udp", 53, 53), lab.ingress("icmp"), lab.ingress("udp", 53, 53, family=6))
    there = frames.udp(a.mac, b.mac, a.ip, b.ip, (1000, 53))
    back = frames.udp(b.mac, a.mac, b.ip, a.ip, (53, 1000))
    assert not a.hears(b, back)  # before anybody asked
    assert b.hears(a, there)
    assert a.hears(b, back)
    assert not a.hears(b, frames.udp(b.mac, a.mac, b.ip, a.ip, (54, 1000)))
    assert not a.hears(b, frames.tcp(b.mac, a.mac, b.ip, a.ip, (53, 1000), frames.SYN))
    there6 = frames.udp(a.mac, b.mac, a.ips[1], b.ips[1], (1000, 53))
    assert b.hears(a, there6)
    assert a.hears(b, frames.udp(b.mac, a.mac, b.ips[1], a.ips[1], (53, 1000)))
    # In the middle of a connection that was never opened nothing passes.
    assert not b.hears(a, frames.tcp(a.mac, b.mac, a.ip, b.ip, (1, 53), frames.ACK))


def test_pings_are_answered(host):
    spec = lab.network(host, a="10.0.0.10", b="10.0.0.11")
    other = lab.new_id()
    spec["groups"][other] = {"rules": [lab.ingress("icmp", icmp_type=8)], "members": []}
    spec["ports"][1]["security_groups"].append(other)
    host.apply(spec)
    a, b = host.guest(spec, "a"), host.guest(spec, "b")
    answer = frames.ping(b.mac, a.mac, b.ip, a.ip, reply=True)
    assert not a.hears(b, answer)
    assert b.hears(a, frames.ping(a.mac, b.mac, a.ip, b.ip))
    assert a.hears(b, answer)
