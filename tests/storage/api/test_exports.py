"""Exports by the API: made by a host, downloaded in parts, and gone after a while."""

import hashlib

import pytest
from django.db.models.functions import Now

from cloud.hosts.models import Allocation
from cloud.operations.models import Operation
from cloud.tenancy import quota
from storage.models import Image, ImageExport, ImageImport
from storage.store import store
from storage.tasks import tidy
from storage.troubles import waiting_exports
from tests import factories
from tests.storage.api.test_images import UPLOAD, P, mia, node, put, settle, stored, verify  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)
CONTENT = b"qcow2 of qcow2 of content"


@pytest.fixture
def image(mia, node):  # noqa: F811
    mia.post(f"{P}/images", {**UPLOAD, "version": "1"})
    put(mia, "mine", b"content")
    settle(node)
    return Image.objects.get()


@pytest.fixture
def export(mia, node, image):  # noqa: F811
    made = mia.post(f"{P}/images/mine/export", {"format": "qcow2"})
    assert (made.status_code, made.data["status"], made.data["url"]) == (202, "making", None)
    assert made.data["operation"]["kind"] == "storage.export"
    settle(node)
    return mia.get(f"{P}/exports/{made.data['id']}").data


def content(client, export, **headers):
    return client.get(f"{P}/exports/{export['id']}/content", headers=headers)


def test_an_image_is_exported_and_downloaded(mia, node, export, project):  # noqa: F811
    assert (export["status"], export["name"], export["size"]) == ("ready", "mine-1.qcow2", len(CONTENT))
    assert export["url"].endswith(f"/api/v1/projects/demo/exports/{export['id']}/content")
    answer = content(mia, export)
    assert b"".join(answer.streaming_content) == CONTENT
    assert answer.headers["Content-Disposition"] == 'attachment; filename="mine-1.qcow2"'
    assert answer.headers["X-Content-SHA256"] == export["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert answer.headers["ETag"] == f'"{export["sha256"]}"'
    assert not ImageImport.objects.exists()
    assert not Allocation.objects.exists()
    assert quota.usage(project)["image_gib"]["used"] == 2
    verify()


@pytest.mark.parametrize(
    ("asked", "status", "got"),
    [
        ("bytes=9-", 206, CONTENT[9:]),
        ("bytes=0-4", 206, CONTENT[:5]),
        ("bytes=-7", 206, CONTENT[-7:]),
        ("bytes=5-1000", 206, CONTENT[5:]),
        ("bytes=0-1,3-4", 200, CONTENT),  # more than one part: all of it
        ("bytes=4-2", 200, CONTENT),
        ("lines=1-2", 200, CONTENT),
        ("bytes=25-", 416, None),
        ("bytes=-0", 416, None),
    ],
)
def test_a_part_of_it(mia, export, asked, status, got):  # noqa: F811
    answer = content(mia, export, Range=asked)
    assert answer.status_code == status
    if got is None:
        assert answer.headers["Content-Range"] == f"bytes */{len(CONTENT)}"
        assert answer.json()["code"] == "no_such_range"
        return
    assert b"".join(answer.streaming_content) == got
    assert answer.headers["Content-Length"] == str(len(got))
    if status == 206:
        first = CONTENT.index(got)
        assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(got) - 1}/{len(CONTENT)}"


def test_a_part_of_what_has_changed_is_all_of_it(mia, export):  # noqa: F811
    part = content(mia, export, Range="bytes=0-1", **{"If-Range": f'"{export["sha256"]}"'})
    assert part.status_code == 206
    whole = content(mia, export, Range="bytes=0-1", **{"If-Range": '"another"'})
    assert (whole.status_code, b"".join(whole.streaming_content)) == (200, CONTENT)


def test_its_head_alone(mia, export):  # noqa: F811
    head = mia.head(f"{P}/exports/{export['id']}/content")
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(CONTENT)))


def test_strangers_see_nothing_of_it(api, export):
    other = factories.project("other")
    olga = api.as_(factories.member(other))
    assert content(olga, export).status_code == 404
    assert olga.get(f"projects/other/exports/{export['id']}/content").status_code == 404


def test_one_outlives_its_image_and_ends_by_itself(mia, node, image, export, project):  # noqa: F811
    assert mia.delete(f"{P}/images/mine?purge=true").status_code == 202
    settle(node)
    assert not store().has(image.files[0]["sha256"])
    assert b"".join(content(mia, export).streaming_content) == CONTENT
    tidy()
    assert mia.get(f"{P}/exports/{export['id']}").status_code == 200  # its time is not over
    ImageExport.objects.update(expires_at=Now())
    tidy()
    tidy()
    settle(node)
    assert mia.get(f"{P}/exports/{export['id']}").status_code == 404
    assert not store().has(export["sha256"])
    assert quota.usage(project)["image_gib"]["used"] == 0
    verify()


def test_one_that_is_deleted_while_it_is_made_leaves_nothing(mia, node, image):  # noqa: F811
    node.online = False
    made = mia.post(f"{P}/images/mine/export", {"format": "qcow2"}).data
    settle(node)
    assert content(mia, made).status_code == 409
    assert mia.delete(f"{P}/exports/{made['id']}").status_code == 202
    node.online = True
    settle(node)
    assert not ImageExport.objects.exists()
    assert not ImageImport.objects.exists()
    assert {name for name, _ in store().names()} == {image.files[0]["sha256"]}
    verify()


def test_an_image_that_is_deleted_meanwhile_is_exported_all_the_same(mia, node, image):  # noqa: F811
    made = mia.post(f"{P}/images/mine/export", {"format": "qcow2"}).data
    mia.delete(f"{P}/images/mine?purge=true")
    settle(node)
    assert not Image.objects.exists()
    assert b"".join(content(mia, made).streaming_content) == CONTENT
    assert not store().has(image.files[0]["sha256"])
    verify()


def test_what_cannot_be_made_says_why(mia, node, image, project):  # noqa: F811
    node.broken, node.final = "It is damaged.", True
    made = mia.post(f"{P}/images/mine/export", {"format": "ova"}).data
    settle(node)
    failed = mia.get(f"{P}/exports/{made['id']}").data
    assert (failed["status"], failed["status_reason"]) == ("failed", "It is damaged.")
    assert failed["expires_at"]
    assert quota.usage(project)["image_gib"]["used"] == 1
    verify()


def test_a_format_that_no_host_can_make_waits_and_is_on_the_health_page(mia, node, image, settings):  # noqa: F811
    made = mia.post(f"{P}/images/mine/export", {"format": "vhdx"}).data
    settle(node)
    waiting = mia.get(f"{P}/exports/{made['id']}").data
    assert waiting["operation"]["reason"] == "waiting for a host that can export images and has room on its disk"
    Operation.objects.update(started_at="2020-01-01T00:00:00Z")
    assert waiting_exports()[0] == 1


def test_what_an_export_cannot_be_of(mia, node, image):  # noqa: F811
    kernel = factories.image("tiny", files=[{"role": "kernel", "sha256": "a" * 64, "size": 1, "format": None}])
    refused = mia.post(f"{P}/images/{kernel.name}/export", {"format": "ova"})
    assert (refused.status_code, "has no disk" in refused.data["detail"]) == (409, True)
    image.files = [image.files[0], {**image.files[0], "index": 1}]
    image.save()
    refused = mia.post(f"{P}/images/mine/export", {"format": "vdi"})
    assert "Export it as an OVA" in refused.data["detail"]
    assert mia.post(f"{P}/images/mine/export", {"format": "exe"}).status_code == 400


def test_the_quota_holds_for_what_comes(mia, node, image, project):  # noqa: F811
    """A raw file is as large as its disk: it is asked for before anything is made."""
    quota_row = project.quota
    quota_row.limits = {**quota_row.limits, "image_gib": 3}
    quota_row.save()
    refused = mia.post(f"{P}/images/mine/export", {"format": "raw"})
    assert (refused.status_code, refused.data["code"]) == (403, "over_quota")
    assert mia.post(f"{P}/images/mine/export", {"format": "qcow2"}).status_code == 202
