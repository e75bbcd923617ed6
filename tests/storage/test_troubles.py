"""What can be wrong with storage is shown on the health page."""

import pytest

from cloud.operations.troubles import troubles
from tests.things.node import ThingNode

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_damaged_image_file_on_a_host_is_shown_with_what_to_do():
    node = ThingNode()
    node.problems = [{"what": "image cache", "problem": "the image file 0123… was damaged"}]
    node.heartbeat()
    (found,) = troubles()
    assert found.title == "Damaged image files on hosts"
    assert [case.words for case in found.cases] == ["the image file 0123… was damaged"]
