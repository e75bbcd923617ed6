"""What admins of the cloud see first."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from cloud.hosts.models import Host
from cloud.operations.models import Operation
from cloud.tenancy import quota
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(page_of, cloud_admin):
    return page_of(cloud_admin)


def limit(project, **limits):
    project.quota.limits |= limits
    project.quota.save()


def card(client, title: str) -> str:
    """What one card of the page holds."""
    text = client.get("/cloud").content.decode()
    return next(part for part in text.split("<section") if f"<h2>{title}" in part)


def test_it_is_where_admins_begin_and_their_project_stays_at_hand(root, world):
    answer = root.get("/")
    assert (answer.status_code, answer["Location"]) == (303, "/cloud")
    assert f'href="/projects/{world.project.name}/launch"' in root.get("/cloud").content.decode()


def test_a_fresh_cloud_says_what_is_missing(root):
    text = root.get("/cloud").content.decode()
    assert "No hosts yet" in text
    assert "No flavors yet" in text


def test_what_needs_somebody_comes_first_with_what_to_do(root, world):
    Host.objects.update(enabled=False)
    first = card(root, "Do this first")
    assert "Everything works." not in root.get("/cloud").content.decode()
    assert f'href="/cloud/hosts/{world.host.pk}"' in first


def test_hosts_come_with_their_load_those_out_of_service_first(root, world):
    other = factories.host("node2")
    world.host.pulse.load = {
        "cpu_percent": 71.6, "memory_mib": 500, "memory_total_mib": 1000, "disk_gib": 1, "disk_total_gib": 10,
    }  # fmt: skip
    world.host.pulse.save()
    assert re.findall(r">(node\d)</a>", card(root, "Hosts")) == ["node1", "node2"]
    assert re.search(r"72 %</span> ·\s*<span title=\"500 MiB of 1000 MiB\">50 %", card(root, "Hosts"))
    Host.objects.filter(pk=other.pk).update(enabled=False)
    assert re.findall(r">(node\d)</a>", card(root, "Hosts")) == ["node2", "node1"]


def test_how_many_more_of_each_flavor_fit(root, world):
    factories.flavor("giant", vcpus=1000)
    rows = card(root, "Room left").split("<tr>")
    assert "none" in next(row for row in rows if "giant" in row)
    assert re.search(r'class="strong">[1-9]\d*<', next(row for row in rows if ">small<" in row))


def test_failures_of_the_last_day_lead_to_what_they_were_about(root, world):
    assert "Nothing failed." in card(root, "Failed in the last day")
    operation = Operation.objects.get()
    Operation.objects.update(outcome="failed", reason="No space left on device", finished_at=timezone.now())
    shown = card(root, "Failed in the last day")
    assert "No space left on device" in shown
    assert f'href="/projects/{world.project.name}/instances/{operation.subject_id}"' in shown
    Operation.objects.update(finished_at=timezone.now() - timedelta(hours=25))
    assert "Nothing failed." in card(root, "Failed in the last day")


def test_projects_near_their_quota_are_named_the_fullest_first(root, world):
    assert "No project has used 80 %" in card(root, "Projects near their quota")
    limit(world.project, instances=1, vcpus=100, memory_mib=None)
    roomy = factories.project("roomy")
    limit(roomy, instances=0)  # nothing is used, and nothing may be
    shown = card(root, "Projects near their quota")
    assert re.findall(r'class="strong" href="/cloud/projects/[^"]+">([^<]+)', shown) == [world.project.name]
    assert 'aria-valuetext="1 of 1"' in shown
    assert [(project.name, list(uses)) for project, uses in quota.nearest(0.8, 5)] == [
        (world.project.name, ["instances"])
    ]
