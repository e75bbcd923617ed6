"""Images whose files are in a bucket: in, launched from, out again, and gone; whether the bucket serves or not."""

import pytest

from cloud.operations import clock
from cloud.operations.troubles import troubles
from storage import troubles as of_storage
from storage.models import Image
from storage.store import StoreAway, incoming, store
from storage.tasks import tend_buckets, tidy
from tests.storage.api.test_exports import CONTENT, content
from tests.storage.api.test_images import UPLOAD, P, mia, node, put, settle, verify
from tests.storage.test_stores import at_rest

pytestmark = pytest.mark.django_db(transaction=True)
__all__ = ["mia", "node"]


def bring(mia, node):
    mia.post(f"{P}/images", {**UPLOAD, "version": "1"})
    assert put(mia, "mine", b"content").status_code == 202
    settle(node)
    return Image.objects.get()


def export(mia, node):
    made = mia.post(f"{P}/images/mine/export", {"format": "qcow2"}).data
    settle(node)
    return mia.get(f"{P}/exports/{made['id']}").data


def test_an_image_comes_is_used_and_goes(mia, node, in_buckets, settings):
    image = bring(mia, node)
    assert image.status == "ready"
    at_rest()
    name = settings.IMAGE_STORE.split("/")[2]
    assert in_buckets.keys(name) == {f"images/{image.files[0]['sha256']}"}
    made = export(mia, node)  # its host fetches the image's file
    at_rest()
    assert b"".join(content(mia, made).streaming_content) == CONTENT
    part = content(mia, made, Range="bytes=-7")
    assert (part.status_code, b"".join(part.streaming_content)) == (206, CONTENT[-7:])
    verify()
    mia.delete(f"{P}/images/mine?purge=true")
    mia.delete(f"{P}/exports/{made['id']}")
    settle(node)
    tidy()
    verify()
    assert in_buckets.keys(name) == set()


def test_while_the_bucket_is_away_images_are_made_and_wait_for_it(mia, node, in_buckets, settings):
    with in_buckets.silent():
        image = bring(mia, node)
        assert image.status == "ready", image.reason
        made = export(mia, node)
        assert b"".join(content(mia, made).streaming_content) == CONTENT
        with pytest.raises(StoreAway) as away:
            tend_buckets()
        of_storage.SECONDS_UNSENT, patience = -1.0, of_storage.SECONDS_UNSENT
        try:
            assert of_storage.unsent_files()[0] == 2
        finally:
            of_storage.SECONDS_UNSENT = patience
        clock.note_failure(sender=tend_buckets, exception=away.value)
        [found] = [one for one in troubles() if one.title == "Failing periodic tasks"]
        assert "look whether it runs" in found.cases[0].words
    tend_buckets()
    assert {name for name, _ in at_rest().names()} == {image.files[0]["sha256"], made["sha256"]}
    assert not list(incoming().glob("*.*"))


def test_what_cannot_be_removed_now_is_removed_later(mia, node, in_buckets, settings, monkeypatch):
    image = bring(mia, node)
    at_rest()
    there = settings.S3
    settings.S3 = {**there, "endpoint": "http://127.0.0.1:9"}  # a silent one might obey later
    assert mia.delete(f"{P}/images/mine?purge=true").status_code == 202
    settle(node)
    assert not Image.objects.exists()
    with pytest.raises(StoreAway):
        tidy()
    settings.S3 = there
    assert store().has(image.files[0]["sha256"])
    monkeypatch.setattr("storage.files.SECONDS_KEPT_UNNEEDED", -60)
    tidy()
    assert list(store().names()) == []


def test_a_download_while_the_bucket_is_away_is_refused_in_words(mia, node, in_buckets):
    made = bring(mia, node) and export(mia, node)
    at_rest()
    with in_buckets.silent():
        refused = content(mia, made)
    assert (refused.status_code, refused.json()["retryable"]) == (503, True)
    assert "Nothing is lost" in refused.json()["detail"]
    assert in_buckets.settings["endpoint"] not in refused.content.decode(), "tenants are told nothing of the inside"
    assert b"".join(content(mia, made).streaming_content) == CONTENT


def test_a_file_that_the_bucket_has_lost_is_told_in_words(mia, node, in_buckets):
    made = bring(mia, node) and export(mia, node)
    at_rest().bucket.remove(made["sha256"])
    gone = content(mia, made)
    assert (gone.status_code, "Export the image again" in gone.json()["detail"]) == (404, True)
