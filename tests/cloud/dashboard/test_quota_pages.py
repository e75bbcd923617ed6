"""Asking for more quota, the inbox, and changing limits with a preview."""

import pytest

from cloud.tenancy.models import QuotaRequest

pytestmark = pytest.mark.django_db


@pytest.fixture
def mia(page_of, member):
    return page_of(member)


@pytest.fixture
def root(page_of, cloud_admin):
    return page_of(cloud_admin)


def test_a_member_asks_an_admin_approves_and_the_member_sees_it(mia, root, world):
    here = "/projects/demo/quota"
    assert mia.post(here, {"vcpus": "80", "reason": "A <b>fair</b>"}).status_code == 303
    made = QuotaRequest.objects.get()
    text = root.get("/cloud/quota-requests").content.decode()
    assert "A &lt;b&gt;fair&lt;/b&gt;" in text
    assert '<span class="count" id="waiting-quota-requests">1<span class="heard"> waiting</span></span>' in text
    assert root.post(f"/cloud/quota-requests/{made.pk}", {"verb": "approve", "note": "Fine."}).status_code == 303
    text = mia.get(here).content.decode()
    assert "“Fine.”" in text
    assert "1 of 80" in text
    assert "Nobody waits for an answer" in root.get("/cloud/quota-requests").content.decode()


def test_declining_needs_words(mia, root, world):
    mia.post("/projects/demo/quota", {"vcpus": "80"})
    path = f"/cloud/quota-requests/{QuotaRequest.objects.get().pk}"
    refused = root.post(path, {"verb": "decline", "note": ""})
    assert refused.status_code == 400
    assert b'role="alert"' in refused.content
    assert root.post(path, {"verb": "decline", "note": "Not now."}).status_code == 303
    assert root.post(path, {"verb": "approve"}).status_code == 409


def test_what_was_asked_for_is_taken_back(mia, world):
    mia.post("/projects/demo/quota", {"vcpus": "80"})
    path = f"/projects/demo/quota/{QuotaRequest.objects.get().pk}/withdraw"
    assert mia.post(path).status_code == 303
    assert QuotaRequest.objects.get().state == "withdrawn"


def test_a_number_that_is_not_more_is_a_fault_of_its_field(mia, world):
    answer = mia.post("/projects/demo/quota", {"vcpus": "40", "instances": "many"})
    assert answer.status_code == 400
    assert b'id="faults-instances"' in answer.content


def test_limits_are_tried_out_in_the_table(root, world):
    path = f"/cloud/projects/{world.project.pk}"
    dialog = root.get(path, headers={"HX-Target": "dialog-body"}).content.decode()
    assert dialog.lstrip().startswith('<div id="dialog-body">')
    tried = root.post(f"{path}?try", {"vcpus": "7", "memory_mib": ""}, headers={"HX-Target": "quota-preview"})
    text = tried.content.decode()
    assert '40 → <span class="strong">7</span>, 1 in use' in text
    assert '40 GiB → <span class="strong">no limit</span>' in text
    refused = root.post(f"{path}?try", {"instances": "0"}, headers={"HX-Target": "quota-preview"})
    assert "1 instances are in use; the limit cannot be 0." in refused.content.decode()
    world.project.quota.refresh_from_db()
    assert world.project.quota.limits["vcpus"] == 40
