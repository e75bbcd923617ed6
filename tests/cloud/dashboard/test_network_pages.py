"""What is special about the pages of networks: rules in words, what goes with a network, the drawing."""

from uuid import uuid4

import pytest

from network.models import FloatingIP, Network, PortForward, SecurityGroup, SecurityGroupRule
from network.models.security import Direction
from network.pages import rules
from network.pages.topology import MAX_MACHINES, draw
from network.services import networks, ports
from network.services.ports import Holder
from tests.cloud.dashboard.networking import ALICE, one_of_each, plugged

pytestmark = pytest.mark.django_db
P = "/projects/demo"


@pytest.fixture
def ids(project):
    return one_of_each(project)


@pytest.fixture
def mia(page_of, member):
    return page_of(member)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"protocol": 6, "port_min": 22, "port_max": 22}, "SSH (TCP 22) from anywhere"),
        ({"protocol": 6, "port_min": 81, "port_max": 81, "remote_cidr": "0.0.0.0/0"}, "TCP port 81 from anywhere"),
        ({"protocol": 17, "port_min": 53, "port_max": 53, "remote_cidr": "10.0.0.0/8"}, "DNS (UDP 53) from 10.0.0.0/8"),
        ({"protocol": 6, "port_min": 8000, "port_max": 8100}, "TCP ports 8000 to 8100 from anywhere"),
        ({"protocol": 17}, "All of UDP from anywhere"),
        ({"protocol": 1, "icmp_type": 8}, "Ping (ICMP) from anywhere"),
        ({"protocol": 58, "family": 6, "icmp_type": 1, "icmp_code": 4}, "ICMPv6 type 1, code 4 from anywhere"),
        ({"protocol": 47}, "Protocol 47 from anywhere"),
        ({"direction": "egress"}, "Everything to anywhere"),
    ],
)
def test_a_rule_is_said_in_words_and_written_as_it_is_read(facts, words, mia, ids):
    group = SecurityGroup.objects.get(pk=ids["group"])
    group.rules.all().delete()
    rule = SecurityGroupRule.objects.create(group=group, **{"direction": "ingress", "family": 4, **facts})
    assert rules.in_words(rule) == words
    here = f"{P}/security-groups/{group.pk}"
    assert words in mia.get(here).content.decode()
    removed = mia.post(f"{here}/rules/{rule.pk}/remove", {"form_key": str(uuid4())})
    assert (removed.status_code, group.rules.count()) == (303, 0)
    assert mia.post(here, rules.write(rule)).status_code == 303  # as its undo does
    assert [rules.in_words(one) for one in group.rules.all()] == [words]


def test_members_are_called_by_their_group(ids):
    group = SecurityGroup.objects.get(pk=ids["group"])
    assert rules.summary(group.rules.all(), Direction.INGRESS) == ["Everything from members of this group"]
    other = SecurityGroup.objects.create(project=group.project, name="web")
    rule = SecurityGroupRule(group=group, direction="ingress", family=4, remote_group=other)
    assert rules.in_words(rule) == "Everything from members of web"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"protocol": "https"}, "HTTPS (TCP 443) from anywhere"),
        (
            {"protocol": "tcp", "port_min": "8000-8100", "remote_cidr": "10.0.0.0/8"},
            "TCP ports 8000 to 8100 from 10.0.0.0/8",
        ),
        ({"protocol": "ping6"}, "Ping (ICMPv6) from anywhere"),
        ({"protocol": "any", "direction": "egress", "remote_group": "default"}, "Everything to members of default"),
    ],
)
def test_a_rule_is_added_by_the_form(sent, words, mia, project, ids):
    group = SecurityGroup.objects.create(project=project, name="web")
    answer = mia.post(f"{P}/security-groups/{group.pk}", {"direction": "ingress", **sent}, follow=True)
    assert f"Open now: {words}." in answer.content.decode()


def test_faults_of_a_rule_are_beside_their_fields(mia, ids):
    sent = {"direction": "ingress", "protocol": "icmp", "port_min": "22", "remote_cidr": "10.0.0.1/8"}
    answer = mia.post(f"{P}/security-groups/{ids['group']}", sent)
    assert answer.status_code == 400
    assert "has host bits set" in answer.content.decode()
    assert 'value="10.0.0.1/8"' in answer.content.decode()


def test_a_network_comes_with_its_subnet_on_a_router(mia, project, ids):
    sent = {"name": "back", "cidr": "10.77.0.0/24", "router": str(ids["router"]), "labels": "tier=db"}
    answer = mia.post(f"{P}/networks", sent, follow=True)
    page = answer.content.decode()
    assert "The network back is here." in page
    assert "10.77.0.0/24" in page
    assert "10.77.0.1" in page  # where the router is
    assert Network.objects.get(project=project, name="back").labels == {"tier": "db"}


def test_all_faults_of_a_network_are_named_and_nothing_is_made(mia, project, ids):
    answer = mia.post(f"{P}/networks", {"name": "Bad Name", "cidr": "10.0.0.1/24", "mtu": "12"})
    page = answer.content.decode()
    assert answer.status_code == 400
    assert all(f'id="faults-{name}"' in page for name in ("name", "cidr", "mtu"))
    assert project.networks.count() == 1


def test_what_goes_with_a_network_is_shown_before(mia, project, ids):
    made = mia.post(f"{P}/networks", {"name": "back", "cidr": "10.77.0.0/24", "router": str(ids["router"])})
    here = f"{made['Location']}/delete"
    page = mia.get(here).content.decode()
    assert "Delete the network back?" in page
    assert 'subnet <span class="strong">back</span>' in page
    assert "where router default is plugged in" in page
    assert Network.objects.filter(name="back").exists()
    sent = {"form_key": str(uuid4())}
    assert mia.post(here, sent).status_code == 303
    assert not Network.objects.filter(name="back").exists()
    assert mia.post(here, sent).status_code == 303  # sent twice


def test_a_network_with_machines_names_them_and_stays(mia, ids):
    here = f"{P}/networks/{ids['network']}/delete"
    page = mia.get(here).content.decode()
    assert "This is in use" in page
    assert "web" in page
    assert 'class="button primary danger"' not in page
    assert mia.post(here).status_code == 409
    assert Network.objects.filter(pk=ids["network"]).exists()


def test_what_stays_but_changes_is_shown_before(mia, project, ids):
    free = ports.create(network=Network.objects.get(pk=ids["network"]), actor=ALICE, name="spare")
    floating = FloatingIP.objects.get(pk=ids["floating"])
    assert mia.post(f"{P}/floating-ips/{floating.pk}/associate", {"port": "spare"}).status_code == 303
    page = mia.get(f"{P}/ports/{free.pk}/delete").content.decode()
    assert "This stays, but changes:" in page
    assert f'floating IP <span class="strong">{floating.name}</span>' in page


def test_a_floating_ip_leads_nowhere_and_back(mia, ids):
    here = f"{P}/floating-ips/{ids['floating']}"
    target = FloatingIP.objects.get(pk=ids["floating"]).target
    page = mia.post(f"{here}/disassociate", {"form_key": str(uuid4())}, follow=True).content.decode()
    assert "leads nowhere now" in page
    assert "It leads nowhere yet." in page  # its status says why
    assert f'action="{here}/associate"' in page  # the undo
    assert mia.post(f"{here}/associate", {"port": str(ids["port"])}).status_code == 303
    assert FloatingIP.objects.get(pk=ids["floating"]).target == target


def test_a_port_is_forwarded(mia, project, ids):
    listening = FloatingIP.objects.get(port_forwards=ids["forward"])
    sent = {"listen": listening.address, "listen_port": "8080", "to": str(ids["port"]), "target_port": "80"}
    page = mia.post(f"{P}/port-forwards", sent, follow=True).content.decode()
    assert f"{listening.address}:8080 leads to" in page
    assert PortForward.objects.filter(project=project, listen_port=8080, target_port=80).exists()
    refused = mia.post(f"{P}/port-forwards", {**sent, "target_port": ""})
    assert refused.status_code == 400


def test_a_router_parts_from_a_subnet_and_joins_it_again(mia, ids):
    mia.post(f"{P}/networks", {"name": "back", "cidr": "10.77.0.0/24", "router": str(ids["router"])})
    subnet = Network.objects.get(name="back").subnets.get()
    here = f"{P}/routers/{ids['router']}"
    assert mia.post(f"{here}/subnets/{subnet.pk}/detach").status_code == 303
    assert "10.77.0.1" not in mia.get(here).content.decode()
    assert mia.post(here, {"subnet": str(subnet.pk)}).status_code == 303
    assert "10.77.0.1" in mia.get(here).content.decode()


def test_lists_of_a_subnet_are_read_line_by_line(mia, ids):
    sent = {
        "name": "wide", "network": str(ids["network"]), "cidr": "10.78.0.0/24", "gateway": "none", "dhcp": "on",
        "allocation_ranges": "10.78.0.10 - 10.78.0.20\n10.78.0.30", "dns": "10.78.0.2",
        "routes": "172.16.0.0/24 via 10.78.0.5",
    }  # fmt: skip
    assert mia.post(f"{P}/subnets", sent).status_code == 303
    subnet = Network.objects.get(pk=ids["network"]).subnets.get(name="wide")
    ranges = [{"first": "10.78.0.10", "last": "10.78.0.20"}, {"first": "10.78.0.30", "last": "10.78.0.30"}]
    assert (subnet.gateway, subnet.allocation_ranges, subnet.dns) == (None, ranges, ["10.78.0.2"])
    assert subnet.routes == [{"destination": "172.16.0.0/24", "next_hop": "10.78.0.5"}]
    page = mia.get(f"{P}/subnets/{subnet.pk}/change").content.decode()
    assert "10.78.0.10 - 10.78.0.20" in page


def test_the_drawing_has_all_and_does_not_grow_without_end(mia, project, ids):
    network = Network.objects.get(pk=ids["network"])
    for number in range(MAX_MACHINES + 2):
        ports.create(network=network, actor=ALICE, holder=Holder("instance", uuid4(), 0, f"vm{number}"))
    drawing = draw(project)
    names = [node.name for node in drawing.nodes]
    assert names.count("default") == 2  # the network and the router
    assert len(names) == 2 + MAX_MACHINES
    assert "and 4 more" in names
    assert drawing.outside is not None
    part = mia.get(f"{P}/networks", headers={"HX-Target": "topology"}).content.decode()
    assert part.count("<rect") == len(names)
    drawn, _, tree = part.partition("</svg>")
    assert drawn.count('class="state') == len(names) - 1  # of all but "and 4 more"
    assert [name for name in names if name not in tree] == []


def test_the_drawing_says_what_hosts_have_not_made_so(project, ids):
    plugged(Network.objects.get(pk=ids["network"]), "db")
    states = {node.kind: node.status.status for node in draw(project).nodes if node.status}
    assert (states["network"], states["instance"]) == ("waiting", "waiting")
    lone = networks.create(project=project, actor=ALICE, name="lone")
    assert [node.name for node in draw(project).alone] == [lone.name]


def test_activity_tells_of_networks_in_words(mia, project, ids):
    plugged(Network.objects.get(pk=ids["network"]), "db")
    page = mia.get(f"{P}/activity").content.decode()
    assert "attached a subnet to the router" in page
    assert "associated the floating IP" in page
    assert "created the rule" in page
    assert "floating_ip" not in page


def test_the_page_of_a_host_says_what_its_networks_lack(page_of, cloud_admin, world):
    here, root = f"/cloud/hosts/{world.host.pk}", page_of(cloud_admin)
    assert "It carries no networks." in root.get(here).content.decode()
    said = {
        "networks": True,
        "missing": {"tracking": "answers are known by what was sent before"},
        "way_out": "",
        "way_out6": "guests have no way out by IPv6: this host has no route for it",
    }
    world.host.capabilities = {**world.host.capabilities, "network": said}
    world.host.save(update_fields=["capabilities"])
    shown = root.get(here).content.decode()
    assert "Answers are known by what was sent before." in shown
    assert "Guests have no way out by IPv6: this host has no route for it." in shown
    said.update(missing={}, way_out6="")
    world.host.save(update_fields=["capabilities"])
    shown = root.get(here).content.decode()
    assert "It carries networks." in shown
    assert "way out" not in shown
