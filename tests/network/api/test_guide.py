"""The calls of the tenants' guide work, one after the other, in a new project."""

import json
import re
from pathlib import Path

GUIDE = Path(__file__).parents[3] / "docs" / "networks.md"
CALL = re.compile(r"    (POST|PATCH) /api/v1/(\S+) (\{.*\})")


def test_every_call_of_the_guide_works(mia):
    calls = [found for line in GUIDE.read_text().splitlines() if (found := CALL.fullmatch(line))]
    assert len(calls) >= 8
    for call in calls:
        answer = getattr(mia, call[1].lower())(call[2], json.loads(call[3]))
        assert answer.status_code in (200, 201, 202), (call[0], answer.content)
