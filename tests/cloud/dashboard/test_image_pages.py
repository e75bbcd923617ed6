"""What is special about the pages of images: bringing one in, saying what it is, sharing it."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from cloud.operations.models import Operation
from storage.models import Image, ImageShare
from storage.troubles import full_store, waiting_imports
from tests import factories

pytestmark = pytest.mark.django_db
P = "/projects/demo/images"


@pytest.fixture
def mia(page_of, member):
    return page_of(member)


@pytest.fixture
def own(project):
    return factories.image("mine", project=project, version="1", files=[])


def test_one_for_a_file_waits_for_it(mia, project):
    sent = {"name": "mine", "version": "13", "kind": "upload", "url": "", "architecture": "x86_64", "nic_bus": "e1000"}
    answer = mia.post(f"{P}/import", sent)
    image = Image.objects.get(name="mine")
    assert (answer.status_code, answer["Location"]) == (303, f"{P}/{image.pk}")
    assert (image.status, image.nic_bus, image.source) == (
        "waiting", "e1000", {"kind": "upload", "said": ["architecture"]},
    )  # fmt: skip
    shown = mia.get(f"{P}/{image.pk}").content.decode()
    assert f'data-upload="/api/v1/projects/demo/images/{image.pk}/upload/file"' in shown
    assert "storage/upload" in shown


def test_one_from_a_url_is_begun_and_can_be_cancelled(mia):
    wrong = mia.post(f"{P}/import", {"name": "mine", "kind": "url", "url": "ftp://x/y"})
    assert wrong.status_code == 400
    assert b"begins with http:// or https://" in wrong.content
    assert mia.post(f"{P}/import", {"name": "mine", "kind": "url", "url": "https://x/y.ova"}).status_code == 303
    shown = mia.get(f"{P}/{Image.objects.get().pk}").content.decode()
    assert f"/operations/{Operation.objects.get().pk}/cancel" in shown


def test_a_failed_one_says_why_and_what_was_inside(mia, own):
    machine = {"cpus": 2, "memory_mib": 2048, "nics": 1, "firmware": "uefi"}
    found = {"format": "ova", "disks": [], "notes": ["Its sound card is left out."], "machine": machine}
    Image.objects.update(status="failed", reason="It is a <picture>.", found=found)
    shown = mia.get(f"{P}/{own.pk}").content.decode()
    for words in ("It is a &lt;picture&gt;.", "Its sound card is left out.", "2 vCPU,", "uefi"):
        assert words in shown
    assert "failed" in mia.get(P).content.decode()


def test_what_is_said_of_it_is_changed(mia, own):
    there = f"{P}/{own.pk}/change"
    sent = {
        "name": "mine", "description": "ours", "os": "bsd", "architecture": "x86_64", "default_user": "root",
        "firmware": "uefi", "machine_type": "", "disk_bus": "sata", "nic_bus": "", "min_disk_gib": "4",
        "min_memory_mib": "512", "protected": "on", "cloud_init": "on", "labels": "tier=front",
    }  # fmt: skip
    assert mia.post(there, sent).status_code == 303
    own.refresh_from_db()
    assert (own.firmware, own.disk_bus, own.min_disk_gib, own.protected) == ("uefi", "sata", 4, True)
    assert own.cloud_init
    assert b"is protected" in mia.get(f"{P}/{own.pk}/delete").content
    assert mia.post(f"{P}/{own.pk}/deprecate").status_code == 303
    assert b"Offer again" in mia.get(f"{P}/{own.pk}").content


def test_sharing_and_what_others_may_not(mia, own, page_of):
    other = factories.project("other")
    olga = page_of(factories.member(other))
    there = f"/projects/other/images/{own.pk}"
    assert olga.get(there).status_code == 404
    assert mia.post(f"{P}/{own.pk}/share", {"project": str(other.pk)}).status_code == 303
    assert b"Stop sharing with other" in mia.get(f"{P}/{own.pk}/share").content
    assert b"which shares it" in olga.get(there).content
    assert olga.post(f"{there}/change", {"name": "stolen"}).status_code == 404
    assert olga.post(f"{there}/delete").status_code == 404
    assert mia.post(f"{P}/{own.pk}/unshare", {"project": str(other.pk)}).status_code == 303
    assert not ImageShare.objects.exists()
    assert mia.post(f"{P}/{own.pk}/publish", {"public": "on"}).status_code == 403


def test_an_import_that_no_host_can_make_is_on_the_health_page(mia, monkeypatch):
    mia.post(f"{P}/import", {"name": "mine", "kind": "url", "url": "https://x/y.ova"})
    assert waiting_imports() == (0, [])
    Operation.objects.update(started_at=Now() - timedelta(minutes=2))
    assert waiting_imports()[0] == 1
    assert full_store() == (0, [])
    monkeypatch.setattr("storage.troubles.MIN_FREE_BYTES", 1 << 60)
    assert full_store()[0] == 1
