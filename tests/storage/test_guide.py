"""The calls of the tenants' guide work, one after the other, in a new project."""

import json
import re
from pathlib import Path

import pytest

from tests.good_requests import finish

GUIDE = Path(__file__).parents[2] / "docs" / "storage.md"
CALL = re.compile(r"    (POST|PATCH) /api/v1/(\S+) (\{.*\})")


@pytest.mark.django_db
def test_every_call_of_the_guide_works(api, member, project):
    client = api.as_(member)
    calls = [found for line in GUIDE.read_text().splitlines() if (found := CALL.fullmatch(line))]
    assert len(calls) >= 7
    for call in calls:
        answer = getattr(client, call[1].lower())(call[2], json.loads(call[3]))
        assert answer.status_code in (200, 201, 202), (call[0], answer.content)
        finish("volume")
