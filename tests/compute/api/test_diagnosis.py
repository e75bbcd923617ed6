"""Broken situations: each names its hop, and what it offers as a fix opens that hop."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from cloud.hosts.models import Host, HostPulse
from compute import services
from compute.networking import Nic
from network.models import Port, RouterOnHost, SecurityGroupRule
from network.services import networks, port_forwards, ports, routers, security_groups, subnets
from tests.network.clouds import Wired

pytestmark = pytest.mark.django_db(transaction=True)
SSH = {"port": 22}
SEEN = {"nic": "up", "sent_packets": 9, "received_packets": 7, "is_there": True, "answer": "open"}


@pytest.fixture(autouse=True)
def quiet(monkeypatch, settings):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)
    monkeypatch.setattr("cloud.streams.handover.ask_facts", lambda *args: {"seen": SEEN})
    settings.PUBLISH_ON_LOOPBACK = True


class Broken(Wired):
    """`web` and `peer` of one project on the network `default`; a way in to SSH of `web`, which all may use."""

    def __init__(self, home, client):
        super().__init__(home)
        self.client, self.at = client, f"projects/{self.project.name}"
        self.back = self.change(networks.create, project=self.project, name="back")
        self.change(subnets.create, network=self.back, name="back", cidr="10.9.0.0/24")
        self.web, self.peer = self.launch(name="web"), self.launch(name="peer")
        self.settle()
        self.change(port_forwards.create, port=self.port, target_port=22, name="ssh")
        self.rule()
        self.settle_networks()

    def settle_networks(self):
        self.settle()
        self.look()

    @property
    def port(self):
        return Port.objects.get(holder_id=self.web.pk)

    @property
    def router(self):
        return self.project.routers.get()

    def rule(self, **facts):
        rule = {"direction": "ingress", "protocol": 6, "port_min": 22, "remote_cidr": "0.0.0.0/0", **facts}
        return self.change(security_groups.add_rule, group=self.group, rule=rule)

    def rules_gone(self, direction="ingress"):
        for rule in SecurityGroupRule.objects.filter(group=self.group, direction=direction):
            self.change(security_groups.remove_rule, rule=rule)

    def no_way_in(self):
        self.change(port_forwards.delete, forward=self.project.port_forwards.get())

    def no_router(self, subnet="default"):
        self.no_way_in()
        self.change(routers.detach, router=self.router, subnet=self.project.subnets.get(name=subnet))

    def no_way_out(self):
        self.no_way_in()
        self.change(routers.update, router=self.router, changes={"external": False})

    def no_group(self):
        self.change(ports.update, port=self.port, security_groups=[])

    def narrow(self, cidr):
        self.rules_gone()
        self.rule(remote_cidr=cidr)

    def silent(self):
        HostPulse.objects.update(seen_at=Now() - timedelta(hours=1))

    def bare_hosts(self):
        Host.objects.update(capabilities={})

    def behind(self):
        RouterOnHost.objects.update(generation=99)

    def broken_router(self):
        RouterOnHost.objects.update(seen="broken", seen_problem="no such luck")

    def lone_peer(self):
        """A third machine on a network that no router joins."""
        self.lone = self.launch(name="lone", networks=[Nic(self.back)])
        self.settle_networks()

    def other_default_route(self):
        """A third machine on another network of the router; `web` has its default route by `back`."""
        far = self.change(networks.create, project=self.project, name="far")
        subnet = self.change(subnets.create, network=far, name="far", cidr="10.7.0.0/24")
        self.change(routers.attach, router=self.router, subnet=subnet)
        self.lone = self.launch(name="lone", networks=[Nic(far)])
        self.do(services.attach_nic, self.web, network=self.back, gateway=True)
        self.settle_networks()


PEER = {"from": {"instance": "peer"}, "port": 22}
# what breaks it, what is asked, the hop that is named, whether a fix is offered
SITUATIONS = {
    "stopped": (lambda w: w.do(services.stop, w.web, force=True), SSH, "instance", True),
    "paused": (lambda w: w.do(services.pause, w.web), SSH, "instance", True),
    "no way in": (Broken.no_way_in, SSH, "way_in", True),
    "no way in to this port": (lambda w: None, {"port": 80}, "way_in", True),
    "no way in by udp": (lambda w: None, {"port": 22, "protocol": "udp"}, "way_in", True),
    "no ping from outside": (lambda w: None, {"protocol": "icmp"}, "way_in", False),
    "no router": (Broken.no_router, SSH, "router", True),
    "router without a way out": (Broken.no_way_out, SSH, "router", True),
    "no rule": (Broken.rules_gone, SSH, "ingress", True),
    "rule for others": (lambda w: w.narrow("198.51.100.0/24"), SSH, "ingress", True),
    "no group": (Broken.no_group, SSH, "ingress", True),
    "no IPv6": (lambda w: None, {"from": "2001:db8::1", "port": 22}, "nic", False),
    "host is silent": (Broken.silent, SSH, "host", False),
    "host without networks": (Broken.bare_hosts, SSH, "host", False),
    "router is behind": (Broken.behind, SSH, "on_host", False),
    "router is broken": (Broken.broken_router, SSH, "on_host", False),
    "peer is stopped": (lambda w: w.do(services.stop, w.peer, force=True), PEER, "source", True),
    "peer may not send": (lambda w: w.rules_gone("egress"), PEER, "egress", True),
    "peer is not let in": (Broken.rules_gone, PEER, "ingress", True),
    "nobody has the address": (lambda w: None, {"from": "10.9.0.200", "port": 22}, "source", False),
    "default route by another NIC": (
        Broken.other_default_route,
        {"from": {"instance": "lone"}, "port": 22},
        "gateway",
        True,
    ),
    "lone network": (Broken.lone_peer, {"from": {"instance": "lone"}, "port": 22}, "gateway", True),
}


@pytest.fixture
def world(short_path, api, cloud_admin):
    return Broken(short_path, api.as_(cloud_admin))


def ask(world, body, who=None, status=200):
    answer = (who or world.client).post(f"{world.at}/instances/web/diagnose-connection", body, format="json")
    assert answer.status_code == status, answer.content
    return answer.json()


def test_what_is_whole_is_called_open(world):
    for body in (SSH, PEER, {"from": "203.0.113.9", "port": 22}):
        found = ask(world, body)
        assert (found["verdict"], found["blocked_at"], found["fix"]) == ("open", None, None), found


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_blocking_hop_is_named_and_its_fix_opens_it(world, name):
    breaks, body, hop, has_fix = SITUATIONS[name]
    breaks(world)
    if hop != "on_host":
        world.settle() if hop != "host" else None
        world.look() if hop != "host" else None
    found = ask(world, body)
    assert (found["blocked_at"], bool(found["fix"])) == (hop, has_fix), found
    if fix := found["fix"]:
        call = getattr(world.client, fix["method"].lower())
        dry = call(f"{fix['path']}?dry_run=true", fix["body"], format="json")
        assert dry.status_code in (200, 201, 202), dry.content
        assert ask(world, body)["blocked_at"] == hop
        assert call(fix["path"], fix["body"], format="json").status_code in (200, 201, 202)
        world.settle_networks()
        after = ask(world, body)
        assert after["blocked_at"] != hop, after


def test_what_only_the_host_sees_is_found_as_well(world, monkeypatch):
    asked = []

    def answer(host, wish):
        asked.append((host, wish))
        return {"seen": {**SEEN, "answer": "refused"}}

    monkeypatch.setattr("cloud.streams.handover.ask_facts", answer)
    found = ask(world, SSH)
    address = world.port.addresses.get().address
    wish = {
        "what": "probe",
        "port": str(world.port.pk),
        "address": address,
        "protocol": "tcp",
        "number": 22,
        "outside": None,
    }
    assert asked == [(world.port.host_id, wish)]
    assert (found["verdict"], found["blocked_at"], found["fix"]) == ("blocked", "answer", None)
    assert "nothing listens on port 22: sshd is not running in it" in found["says"]
    assert {hop["name"]: hop["seen"] for hop in found["hops"]}["nic"].startswith("Its guest has received 7 packets")
    here = f"{world.at}/instances/web/diagnose-connection?dry_run=true"
    dry = world.client.post(here, SSH, format="json").json()
    plan = dry.pop("plan")
    assert dry == found
    assert (plan["created"], plan["changed"], plan["deleted"]) == ([], [], [])
    assert plan["quota"]["before"] == plan["quota"]["after"]
    monkeypatch.setattr("cloud.streams.handover.ask_facts", lambda *args: {"code": "host_unreachable"})
    found = ask(world, SSH)
    assert (found["verdict"], found["blocked_at"], found["hops"][-1]["verdict"]) == ("unknown", None, "unknown")
    assert "Its host did not answer" in found["says"]
    monkeypatch.setattr("cloud.streams.handover.ask_facts", answer)
    world.do(services.stop, world.web, force=True)
    world.settle_networks()
    assert (ask(world, SSH)["blocked_at"], len(asked)) == ("instance", 2)


def test_the_sending_ends_host_is_asked_as_well(world, monkeypatch):
    said = {"sender": {**SEEN, "is_there": False}, "target": SEEN}
    asked = []

    def answer(host, wish):
        asked.append(wish)
        return {"seen": said["sender" if "towards" in wish else "target"]}

    monkeypatch.setattr("cloud.streams.handover.ask_facts", answer)
    found = ask(world, PEER)
    assert (found["blocked_at"], found["says"].split(".")[0]) == ("sender", "peer does not answer ARP for 10")
    sent = next(wish for wish in asked if "towards" in wish)
    address = world.port.addresses.get().address
    assert sent["port"] == str(Port.objects.get(holder_id=world.peer.pk).pk)
    assert sent["towards"] == {"address": address, "protocol": "tcp", "number": 22}
    said["sender"] = {**SEEN, "tried": "unanswered"}
    found = ask(world, PEER)
    assert found["verdict"] == "open"
    assert any("Nothing has come back." in hop["says"] for hop in found["hops"] if hop["name"] == "sender"), found
    assert {hop["name"]: hop["seen"] for hop in found["hops"]}["egress"].startswith("Its security groups have refused")
    world.do(services.stop, world.peer, force=True)
    world.settle_networks()
    asked.clear()
    assert ask(world, PEER)["blocked_at"] == "source"
    assert not any("towards" in wish for wish in asked)


def test_bad_questions_are_refused_in_words(world):
    for body, pointer in (
        ({}, "/port"),
        ({"port": 0}, "/port"),
        ({"port": 22, "protocol": "icmp"}, "/port"),
        ({"port": 22, "from": "nowhere"}, "/from"),
        ({"port": 22, "from": 5}, "/from"),
        ({"port": 22, "from": {"instance": "nothing"}}, "/from/instance"),
        ({"port": 22, "from": {"instance": "web"}}, "/from/instance"),
        ({"port": 22, "colour": "red"}, "/colour"),
    ):
        faults = ask(world, body, status=400)["errors"]
        assert pointer in [fault["pointer"] for fault in faults], (body, faults)
