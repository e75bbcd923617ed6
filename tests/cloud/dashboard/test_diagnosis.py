"""Why an instance cannot be reached: the page names the hop, and its button opens it."""

import html
import re

import pytest

from compute.models import Instance
from network.models import SecurityGroupRule
from tests.compute.api.test_diagnosis import Broken, quiet  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def broken(short_path, client):
    return Broken(short_path, client)


@pytest.fixture
def root(page_of, broken, cloud_admin):
    return page_of(cloud_admin)


def test_it_names_the_hop_and_its_button_opens_it(root, broken):
    broken.rules_gone()
    here = f"/projects/{broken.project.name}/instances/{Instance.objects.get(name='web').pk}/diagnose"
    text = root.get(here).content.decode()
    assert "security group" in text.lower()
    call = html.unescape(re.search(r'name="call" value="([^"]+)"', text)[1])
    assert call.startswith("POST /api/v1/projects/")
    assert root.post(here, {"call": call}).status_code == 303
    assert SecurityGroupRule.objects.filter(group=broken.group, direction="ingress").count() == 1
    broken.settle_networks()
    open_now = html.unescape(root.get(here).content.decode())
    assert "Nothing blocks TCP port 22" in open_now
    assert "The host sees: Its guest has received 7 packets and sent 9." in open_now
    assert "TCP port 22 is open in the guest." in open_now
    stale = root.post(here, {"call": call})
    assert stale.status_code == 409
    assert "Something has changed meanwhile" in stale.content.decode()


def test_a_question_that_means_nothing_is_refused_beside_its_field(root, broken):
    here = f"/projects/{broken.project.name}/instances/{Instance.objects.get(name='web').pk}/diagnose"
    refused = root.get(f"{here}?from=nobody&port=99999")
    assert refused.status_code == 400
    assert "65535" in refused.content.decode()
