"""Security groups and rules over the API."""

import pytest
from django.db import transaction

from network.models import SecurityGroup, SecurityGroupRule
from tests.network.api.conftest import pointers

GROUPS = "projects/demo/security-groups"
RULES = f"{GROUPS}/default/rules"
SSH = {"direction": "ingress", "protocol": "tcp", "port_min": 22}


def test_the_first_group_lets_everything_out_and_members_in(mia):
    rules = mia.get(f"{GROUPS}/default").json()["rules"]
    assert sorted(rule["summary"] for rule in rules) == [
        "egress IPv4 any protocol to anywhere",
        "egress IPv6 any protocol to anywhere",
        "ingress IPv4 any protocol from group default",
        "ingress IPv6 any protocol from group default",
    ]


def test_a_new_group_lets_everything_out_and_nothing_in(mia):
    made = mia.post(GROUPS, {"name": "web"})
    assert {(rule["direction"], rule["family"]) for rule in made.json()["rules"]} == {("egress", 4), ("egress", 6)}
    assert mia.post(GROUPS, {"name": "closed", "rules": []}).json()["rules"] == []
    assert mia.get(f"{GROUPS}/web").json()["description"] == ""


def test_rules_are_added_and_taken_away(mia):
    added = mia.post(RULES, {**SSH, "remote_cidr": "10.0.0.0/8", "description": "from the office"})
    assert added.status_code == 201
    assert added.json()["summary"] == "ingress IPv4 tcp 22 from 10.0.0.0/8"
    assert (added.json()["port_max"], added.json()["family"], added.json()["protocol"]) == (22, 4, "tcp")
    assert added.headers["Location"].endswith(f"/security-groups/default/rules/{added.json()['id']}")
    twice = mia.post(RULES, {**SSH, "remote_cidr": "10.0.0.0/8"})
    assert (twice.status_code, twice.json()["detail"]) == (409, "The group has this rule already.")
    assert mia.post(RULES, {**SSH, "remote_cidr": "fd00::/8"}).json()["family"] == 6
    assert mia.post(RULES, {"direction": "ingress", "protocol": "icmpv6", "icmp_type": 128}).json()["family"] == 6
    assert (
        mia.post(RULES, {"direction": "ingress", "protocol": 47})
        .json()["summary"]
        .startswith("ingress IPv4 protocol 47")
    )
    assert len(mia.get(f"{RULES}?direction=ingress").json()["items"]) == 6
    assert mia.get(f"{RULES}/{added.json()['id']}").json() == added.json()
    assert mia.delete(f"{RULES}/{added.json()['id']}").status_code == 204
    assert mia.get(f"{RULES}/{added.json()['id']}").status_code == 404
    assert mia.get(f"{GROUPS}/nothing/rules").status_code == 404
    assert mia.get(f"{RULES}/nothing").status_code == 404


@pytest.mark.parametrize(
    ("rule", "places"),
    [
        ({"direction": "in"}, ["/direction"]),
        ({}, ["/direction"]),
        ({"direction": "ingress", "protocol": "icmp", "port_min": 8}, ["/port_min"]),
        ({"direction": "ingress", "port_min": 8}, ["/port_min"]),
        ({"direction": "ingress", "protocol": "tcp", "port_min": 80, "port_max": 22}, ["/port_max"]),
        ({"direction": "ingress", "protocol": "tcp", "port_max": 22}, ["/port_min"]),
        ({"direction": "ingress", "protocol": "tcp", "port_min": 0}, ["/port_min"]),
        ({"direction": "ingress", "protocol": "tcp", "port_min": 65536}, ["/port_min"]),
        ({"direction": "ingress", "protocol": "tcp", "icmp_type": 8}, ["/icmp_type"]),
        ({"direction": "ingress", "protocol": "icmp", "icmp_code": 0}, ["/icmp_code"]),
        ({"direction": "ingress", "protocol": "icmp", "icmp_type": 256}, ["/icmp_type"]),
        ({"direction": "ingress", "protocol": "icmp", "family": 6}, ["/protocol"]),
        ({"direction": "ingress", "protocol": "icmpv6", "family": 4}, ["/protocol"]),
        ({"direction": "ingress", "protocol": "ipx"}, ["/protocol"]),
        ({"direction": "ingress", "protocol": 256}, ["/protocol"]),
        ({"direction": "ingress", "protocol": True}, ["/protocol"]),
        ({"direction": "ingress", "family": 5}, ["/family"]),
        ({"direction": "ingress", "family": 6, "remote_cidr": "10.0.0.0/8"}, ["/remote_cidr"]),
        ({"direction": "ingress", "remote_cidr": "10.0.0.1/8"}, ["/remote_cidr"]),
        ({"direction": "ingress", "remote_cidr": "10.0.0.0/8", "remote_group": "default"}, ["/remote_group"]),
        ({"direction": "ingress", "remote_group": "nothing"}, ["/remote_group"]),
        (
            {"direction": "ingress", "protocol": "icmp", "family": 6, "port_min": 5, "port_max": 4, "icmp_code": 1},
            ["/protocol", "/port_min", "/port_max", "/icmp_code"],
        ),
    ],
)
def test_rules_that_mean_nothing_are_refused(mia, rule, places):
    answer = mia.post(RULES, rule)
    assert (answer.status_code, pointers(answer)) == (400, places)
    assert SecurityGroupRule.objects.filter(group__project__name="demo").count() == 4


def test_a_group_is_made_with_all_of_its_rules_or_not_at_all(mia):
    made = mia.post(GROUPS, {"name": "web", "rules": [SSH, {**SSH, "port_min": 80, "port_max": 443}]})
    assert len(made.json()["rules"]) == 2
    bad = [SSH, SSH, {"direction": "ingress", "port_min": 1}, {**SSH, "port_max": 2}]
    refused = mia.post(GROUPS, {"name": "bad", "rules": bad})
    assert pointers(refused) == ["/rules/2/port_min", "/rules/3/port_max", "/rules/1"]
    assert not SecurityGroup.objects.filter(name="bad").exists()


def test_ten_thousand_rules_are_refused_in_one_word(mia):
    answer = mia.post(GROUPS, {"name": "huge", "rules": [{"direction": "ingress"}] * 10_000})
    assert (answer.status_code, pointers(answer)) == (400, ["/rules"])
    over = mia.post(GROUPS, {"name": "many", "rules": [{**SSH, "port_min": number} for number in range(1, 101)]})
    assert over.status_code == 201
    over = mia.post(GROUPS, {"name": "more", "rules": [{**SSH, "port_min": number} for number in range(1, 101)]})
    assert (over.status_code, over.json()["quota"][0]["kind"]) == (403, "security_group_rules")


def test_strangers_groups_cannot_be_named(mia, stranger):
    theirs = SecurityGroup.objects.get(project__name="elsewhere")
    assert pointers(mia.post(RULES, {"direction": "ingress", "remote_group": str(theirs.pk)})) == ["/remote_group"]
    assert mia.get(f"{GROUPS}/{theirs.pk}/rules").status_code == 404
    rule = theirs.rules.first()
    assert mia.delete(f"{RULES}/{rule.pk}").status_code == 404


def test_a_group_in_use_names_ports_and_groups(mia, plug):
    plug("web")
    refused = mia.delete(f"{GROUPS}/default?cascade=true")
    assert [(one["type"], one["name"]) for one in refused.json()["used_by"]] == [("instance", "web")]
    mia.post(GROUPS, {"name": "db", "rules": []})
    mia.post(GROUPS, {"name": "front", "rules": [{"direction": "egress", "remote_group": "db"}]})
    refused = mia.delete(f"{GROUPS}/db")
    assert [(one["type"], one["name"]) for one in refused.json()["used_by"]] == [("security_group", "front")]
    plan = mia.delete(f"{GROUPS}/db?cascade=true&dry_run=true").json()["plan"]
    assert [one["type"] for one in plan["deleted"]] == ["security_group_rule", "security_group"]
    assert mia.delete(f"{GROUPS}/db?cascade=true").status_code == 204
    assert mia.get(f"{GROUPS}/front").json()["rules"] == []


def test_the_database_refuses_what_means_nothing_too(project):
    group = SecurityGroup.objects.get(project=project)
    for rule in (
        {"port_min": 22, "port_max": 22},
        {"protocol": 6, "port_min": 22, "port_max": 21},
        {"protocol": 6, "icmp_type": 8},
        {"family": 6, "protocol": 1},
        {"remote_cidr": "fd00::/8"},
        {"remote_cidr": "10.0.0.0/8", "remote_group": group},
        {"direction": "side"},
    ):
        made = SecurityGroupRule(group=group, **{"direction": "ingress", "family": 4, **rule})
        with pytest.raises(Exception, match="rule_"), transaction.atomic():
            made.save()
