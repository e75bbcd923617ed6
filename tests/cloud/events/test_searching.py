"""Searching a long log for what is rare in it reads only what it shows."""

import json
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test import RequestFactory

from cloud.events import reading
from cloud.events.models import Event
from cloud.events.pages.activity import narrow

pytestmark = pytest.mark.django_db
MANY = 20_000
RARE = {
    "actor": "nia", "action": ".drain", "subject": "needle", "subject_id": "needle-id", "request_id": "needle-request",
}  # fmt: skip
PROJECT = UUID(int=7)


@pytest.fixture
def long_log() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE events_event DISABLE TRIGGER USER")
        cursor.execute(
            """
            INSERT INTO events_event (action, project_id, subject_type, subject_id, subject_name, actor, request_id)
            SELECT CASE n WHEN 10 THEN 'hosts.host.drain' ELSE 'compute.instance.seen' END, %s, 'instance',
                CASE n WHEN 10 THEN 'needle-id' ELSE (n %% 500)::text END,
                CASE n WHEN 10 THEN 'needle' ELSE 'vm' || n %% 500 END, CASE n WHEN 10 THEN 'nia' ELSE 'mia' END,
                CASE n WHEN 10 THEN 'needle-request' ELSE (n %% 9000)::text END
            FROM generate_series(1, %s) n
            """,
            [PROJECT, MANY],
        )
        cursor.execute("ALTER TABLE events_event ENABLE TRIGGER USER")
        cursor.execute("ANALYZE events_event")


def read_in_vain(plan: dict[str, Any]) -> int:
    return plan.get("Rows Removed by Filter", 0) + sum(read_in_vain(below) for below in plan.get("Plans", ()))


def kinds(plan: dict[str, Any]) -> set[str]:
    return {plan["Node Type"]}.union(*(kinds(below) for below in plan.get("Plans", ())))


@pytest.mark.parametrize("name", RARE)
@pytest.mark.parametrize("scope", ["cloud", "project"])
def test_a_rare_value_is_found_by_its_index(name, scope, long_log):
    found = narrow(Event.objects.all(), RequestFactory().get("/", {name: RARE[name]}), of_project=scope == "project")
    if scope == "project":
        found = found.filter(project_id=PROJECT)
    page = found.order_by("-transaction", "-id")[:51]
    plan = json.loads(page.explain(format="json", analyze=True))[0]["Plan"]
    assert len(page) == 1
    assert read_in_vain(plan) < 100
    assert "Seq Scan" not in kinds(plan)


def test_the_events_of_one_subject_are_found_by_its_index(long_log):
    page = reading.log(subject=("instance", "7")).order_by("-transaction", "-id")[:20]
    plan = json.loads(page.explain(format="json", analyze=True))[0]["Plan"]
    assert len(page) == 20
    assert read_in_vain(plan) < 100
