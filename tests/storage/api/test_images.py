"""Images from anywhere, by the API: sent in one request or in pieces, fetched, made by a host, shared, deleted."""

import base64
import hashlib
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from cloud import intake
from cloud.hosts.models import Allocation, HostPulse
from cloud.operations import engine
from cloud.operations.invariants import invariants
from cloud.operations.models import Operation
from compute.models import Instance
from storage import uploads
from storage.models import Image, ImageImport, Upload
from storage.store import incoming, store
from storage.tasks import tidy
from tests import factories
from tests.storage.node import ImageNode
from tests.storage.test_hardware import NO_IDE

pytestmark = pytest.mark.django_db(transaction=True)
P = "projects/demo"
UPLOAD = {"name": "mine", "source": {"kind": "upload"}}
TUS = {"HTTP_TUS_RESUMABLE": "1.0.0"}


@pytest.fixture(autouse=True)
def stored(settings, tmp_path):
    settings.IMAGE_STORE = tmp_path / "store"


@pytest.fixture
def node(db):
    return ImageNode()


@pytest.fixture
def mia(api, member):
    return api.as_(member)


def settle(node):
    for _ in range(10):
        Operation.objects.filter(finished_at=None).update(due_at=Now())
        for key in Operation.objects.filter(finished_at=None).values_list("pk", flat=True):
            engine.advance(key)
        if node and node.online:
            node.look()
            node.heartbeat()


def put(client, image, content):
    where = f"{P}/images/{image}/file"
    return client.generic("PUT", where, content, content_type="application/octet-stream")


def verify():
    assert [breach.words for item in invariants() for breach in item.check()] == []


def test_an_upload_becomes_an_image_that_launches(mia, node):
    made = mia.post(f"{P}/images", {**UPLOAD, "version": "1", "source": {"kind": "upload", "size": 7}})
    assert (made.status_code, made.data["status"], made.data["upload"]["received"]) == (201, "waiting", 0)
    sent = put(mia, "mine", b"content")
    assert (sent.status_code, sent.data["status"]) == (202, "importing")
    assert sent.data["operation"]["kind"] == "storage.import"
    settle(node)
    image = mia.get(f"{P}/images/mine").data
    assert (image["status"], image["min_disk_gib"], image["upload"]) == ("ready", 3, None)
    assert image["found"]["format"] == "raw"
    [file] = image["files"]
    assert store().open(file["sha256"]).read() == b"qcow2 of content"
    assert not list(incoming().iterdir())
    assert not ImageImport.objects.exists()
    assert not Allocation.objects.exists()
    verify()


def test_a_file_that_is_not_as_announced_is_refused(mia, node):
    mia.post(f"{P}/images", {**UPLOAD, "source": {"kind": "upload", "size": 7}})
    assert put(mia, "mine", b"too much of it").status_code == 413
    short = put(mia, "mine", b"short")
    assert short.status_code == 400
    assert "5 bytes came, and 7 were announced" in short.data["detail"]
    assert mia.get(f"{P}/images/mine").data["status"] == "waiting"
    assert put(mia, "mine", b"content").status_code == 202
    assert put(mia, "mine", b"content").status_code == 409


def test_the_quota_bounds_what_is_read(api, node, settings):
    project = factories.project("small", limits={"images": 5, "image_gib": 1})
    owner = api.as_(factories.member(project))
    assert owner.post("projects/small/images", UPLOAD).status_code == 201
    over = owner.post("projects/small/images", {**UPLOAD, "name": "other"})
    assert (over.status_code, over.data["code"]) == (403, "over_quota")
    upload = Upload.objects.get()
    assert uploads.limit(upload, 1) == 1 << 30
    upload.size = 1 << 60  # as a client may tell with a piece
    assert uploads.limit(upload, None) == settings.IMAGE_MAX_GIB << 30


def test_what_the_host_refuses_fails_in_its_words_and_leaves_nothing(mia, node):
    node.broken, node.final = "It is a picture, no disk.", True
    mia.post(f"{P}/images", UPLOAD)
    put(mia, "mine", b"content")
    settle(node)
    image = mia.get(f"{P}/images/mine").data
    assert (image["status"], image["status_reason"]) == ("failed", "It is a picture, no disk.")
    assert not list(incoming().iterdir())
    assert not ImageImport.objects.exists()
    verify()


def test_where_the_host_itself_fails_another_one_tries(mia, node):
    node.broken = "the disk is full"
    mia.post(f"{P}/images", UPLOAD)
    put(mia, "mine", b"content")
    settle(node)
    assert "waiting for a host" in mia.get(f"{P}/images/mine").data["operation"]["reason"]
    settle(ImageNode("another"))
    assert mia.get(f"{P}/images/mine").data["status"] == "ready"


def test_another_host_takes_over_from_one_that_fell_silent(mia, node):
    node.online = False
    mia.post(f"{P}/images", UPLOAD)
    put(mia, "mine", b"content")
    settle(node)
    another = ImageNode("another")
    settle(another)
    assert mia.get(f"{P}/images/mine").data["status"] == "importing"
    HostPulse.objects.filter(host=node.host).update(seen_at=Now() - timedelta(minutes=6))
    settle(another)
    assert mia.get(f"{P}/images/mine").data["status"] == "ready"
    assert ImageImport.objects.get().host == node.host  # it clears up when it is back
    settle(None)
    node.online = True
    node.look()
    assert not ImageImport.objects.exists()


def test_an_import_can_be_cancelled(mia, node):
    node.online = False
    mia.post(f"{P}/images", UPLOAD)
    operation = put(mia, "mine", b"content").data["operation"]["id"]
    settle(node)
    assert mia.post(f"{P}/operations/{operation}/cancel").status_code in (200, 202)
    node.online = True
    settle(node)
    image = mia.get(f"{P}/images/mine").data
    assert image["status"] == "failed"
    assert "cancelled" in image["status_reason"]
    verify()


def test_from_a_url(mia, node):
    bad = mia.post(f"{P}/images", {"name": "x", "source": {"kind": "url", "url": "ftp://me:secret@h/x", "size": 4}})
    assert {fault["pointer"] for fault in bad.data["errors"]} == {"/source/url", "/source/size"}
    made = mia.post(f"{P}/images", {"name": "web", "source": {"kind": "url", "url": "https://example.org/a.qcow2"}})
    assert (made.status_code, made.data["status"]) == (202, "importing")
    settle(node)
    assert mia.get(f"{P}/images/web").data["status"] == "ready"
    [spec] = node.specs.values()
    assert spec["source"]["url"] == "https://example.org/a.qcow2"
    assert (spec["source"]["allow_private"], spec["source"]["max_bytes"]) == (False, 100 << 30)


def sent_in_pieces(mia, where, content, size):
    for at in range(0, len(content), size):
        piece = content[at : at + size]
        digest = base64.b64encode(hashlib.sha256(piece).digest()).decode()
        answer = mia.generic(
            "PATCH", where, piece, content_type="application/offset+octet-stream", **TUS,
            HTTP_UPLOAD_OFFSET=str(at), HTTP_UPLOAD_CHECKSUM=f"sha256 {digest}",
        )  # fmt: skip
        assert answer.status_code == 204, answer.data
        assert answer.headers["Upload-Offset"] == str(at + len(piece))


def test_tus(mia, node):
    told = f"name {base64.b64encode(b'mine').decode()},filename {base64.b64encode(b'a.qcow2').decode()}"
    begun = mia.generic("POST", f"{P}/uploads", b"", **TUS, HTTP_UPLOAD_LENGTH="10", HTTP_UPLOAD_METADATA=told)
    assert begun.status_code == 201
    where = begun.headers["Location"].partition("/api/v1/")[2]
    sent_in_pieces(mia, where, b"01234", 2)
    head = mia.head(where, **TUS)
    assert (head.headers["Upload-Offset"], head.headers["Upload-Length"]) == ("5", "10")
    patch = {"content_type": "application/offset+octet-stream", **TUS}
    wrong = mia.generic("PATCH", where, b"xxxxx", **patch, HTTP_UPLOAD_OFFSET="4")
    assert wrong.status_code == 409
    altered = mia.generic("PATCH", where, b"xxxxx", **patch, HTTP_UPLOAD_OFFSET="5", HTTP_UPLOAD_CHECKSUM="sha1 AAAA")
    assert (altered.status_code, altered.data["code"]) == (460, "checksum_mismatch")
    assert mia.head(where, **TUS).headers["Upload-Offset"] == "5"
    Upload.objects.update(expires_at=Now())
    assert mia.generic("PATCH", where, b"567890", **patch, HTTP_UPLOAD_OFFSET="5").status_code == 413
    assert mia.generic("PATCH", where, b"567", **patch, HTTP_UPLOAD_OFFSET="5").status_code == 204
    assert uploads.expired() == []  # it goes on
    assert mia.generic("PATCH", where, b"89", **patch, HTTP_UPLOAD_OFFSET="8").status_code == 204
    settle(node)
    [file] = mia.get(f"{P}/images/mine").data["files"]
    assert store().open(file["sha256"]).read() == b"qcow2 of 0123456789"


def test_a_length_that_cannot_be_leaves_the_upload_as_it_is(mia, settings):
    begun = mia.generic(
        "POST", f"{P}/uploads", b"", **TUS, HTTP_UPLOAD_DEFER_LENGTH="1",
        HTTP_UPLOAD_METADATA=f"name {base64.b64encode(b'mine').decode()}",
    )  # fmt: skip
    where = begun.headers["Location"].partition("/api/v1/")[2]
    sent_in_pieces(mia, where, b"0123", 4)
    patch = {"content_type": "application/offset+octet-stream", **TUS, "HTTP_UPLOAD_OFFSET": "4"}
    short = mia.generic("PATCH", where, b"", **patch, HTTP_UPLOAD_LENGTH="3")
    assert (short.status_code, "4 bytes are here already" in short.data["detail"]) == (400, True)
    long = mia.generic("PATCH", where, b"", **patch, HTTP_UPLOAD_LENGTH=str((settings.IMAGE_MAX_GIB << 30) + 1))
    assert long.status_code == 413
    assert Upload.objects.get().size is None
    assert put(mia, "mine", b"content").status_code == 202


def test_what_is_complete_is_not_written_again_by_who_came_before(mia, node, monkeypatch):
    """Two send the same file at once: the second was let in before the first was ready."""
    mia.post(f"{P}/images", UPLOAD)
    held, late = [], []
    opened = intake.Receiver.__init__

    def open_late(self, *arguments):
        if not held:
            held.append(self)
            late.append(put(mia, "mine", b"the first"))
        opened(self, *arguments)

    monkeypatch.setattr(intake.Receiver, "__init__", open_late)
    second = put(mia, "mine", b"the second")
    assert [late[0].status_code, second.status_code] == [202, 409]
    settle(node)
    [file] = mia.get(f"{P}/images/mine").data["files"]
    assert store().open(file["sha256"]).read() == b"qcow2 of the first"


def test_tus_can_give_up(mia):
    begun = mia.generic(
        "POST", f"{P}/uploads", b"", **TUS, HTTP_UPLOAD_LENGTH="10",
        HTTP_UPLOAD_METADATA=f"name {base64.b64encode(b'mine').decode()}",
    )  # fmt: skip
    where = begun.headers["Location"].partition("/api/v1/")[2]
    sent_in_pieces(mia, where, b"0123", 4)
    assert mia.generic("DELETE", where, b"", **TUS).status_code == 204
    settle(None)
    assert mia.get(f"{P}/images/mine").status_code == 404
    assert not list(incoming().iterdir())


def test_what_nobody_finishes_expires(mia):
    mia.post(f"{P}/images", UPLOAD)
    Upload.objects.update(expires_at=Now())
    tidy()
    image = mia.get(f"{P}/images/mine").data
    assert image["status"] == "failed"
    assert "not sent" in image["status_reason"]
    assert put(mia, "mine", b"content").status_code == 409


def test_an_image_in_use_is_not_deleted_and_its_file_goes_with_the_last_one(mia, node, project):
    for name in ("one", "two"):
        mia.post(f"{P}/images", {**UPLOAD, "name": name})
        put(mia, name, b"content")
    settle(node)
    one, two = Image.objects.order_by("name")
    [file] = one.files
    instance = Instance.objects.create(
        project=project, name="web", flavor=factories.flavor(), vcpus=1, memory_mib=1, disk_gib=1, image=one,
        boot_files=one.files, created_by="mia",
    )  # fmt: skip
    refused = mia.delete(f"{P}/images/one")
    assert refused.status_code == 409
    assert [user["name"] for user in refused.data["used_by"]] == ["web"]
    mia.patch(f"{P}/images/two", {"protected": True})
    assert mia.delete(f"{P}/images/two").status_code == 409
    mia.patch(f"{P}/images/two", {"protected": False})
    assert mia.delete(f"{P}/images/two?purge=true").status_code == 202
    settle(node)
    assert store().has(file["sha256"])
    instance.delete()
    assert mia.delete(f"{P}/images/one").status_code == 200
    settle(node)
    assert [one["name"] for one in mia.get(f"{P}/images?trashed=true").data["items"]] == ["one"]
    assert mia.get(f"{P}/images/one").status_code == 404
    assert mia.post(f"{P}/images/one/restore").data["trashed_at"] is None
    mia.delete(f"{P}/images/one")
    assert store().has(file["sha256"])
    mia.post(f"{P}/images/one/purge")
    settle(node)
    assert not store().has(file["sha256"])
    assert not Image.objects.exists()
    verify()


def test_who_deletes_an_image_is_told_nothing_of_other_projects(mia, node, project):
    other = factories.project("other")
    image = factories.image("mine", project=project)
    common = {"flavor": factories.flavor(), "vcpus": 1, "memory_mib": 1, "disk_gib": 1, "created_by": "olga"}
    Instance.objects.create(project=other, name="merger-with-acme", image=image, boot_files=image.files, **common)
    refused = mia.delete(f"{P}/images/mine")
    assert (refused.status_code, refused.data["used_by"]) == (409, [])
    assert "in use by 1 thing of other projects" in refused.data["detail"]
    Instance.objects.create(project=project, name="web", image=image, boot_files=image.files, **common)
    refused = mia.delete(f"{P}/images/mine")
    assert [user["name"] for user in refused.data["used_by"]] == ["web"]
    assert "merger" not in str(refused.data)


def test_sharing(mia, api, node, project):
    other = factories.project("other")
    olga = api.as_(factories.member(other))
    image = factories.image("mine", project=project)
    unknown = mia.post(f"{P}/images/mine/share", {"project": "other"})
    assert unknown.status_code == 400
    shared = mia.post(f"{P}/images/mine/share", {"project": str(other.pk)})
    assert (shared.data["visibility"], shared.data["shared_with"][0]["name"]) == ("shared", "other")
    seen = olga.get("projects/other/images/mine").data
    assert (seen["own"], seen["shared_with"], seen["source"]) == (False, [], {})
    assert olga.patch("projects/other/images/mine", {"description": "mine now"}).status_code == 403
    assert olga.delete("projects/other/images/mine").status_code == 403
    assert mia.post(f"{P}/images/mine/publish", {"public": True}).status_code == 403
    assert mia.post(f"{P}/images/mine/unshare", {"project": str(other.pk)}).data["visibility"] == "private"
    assert olga.get(f"projects/other/images/{image.pk}").status_code == 404


def test_a_host_gets_nothing_but_what_it_was_ordered_to_make(mia, node):
    mia.post(f"{P}/images", UPLOAD)
    put(mia, "mine", b"content")
    node.online = False
    settle(node)
    row = ImageImport.objects.get()
    stranger = ImageNode("stranger")
    assert stranger.call("GET", f"uploads/{row.pk}").status_code == 404
    assert stranger.call("PUT", f"imports/{row.pk}/files/0", b"x", **{"X-Content-SHA256": "0" * 64}).status_code == 404
    altered = node.call("PUT", f"imports/{row.pk}/files/0", b"x", **{"X-Content-SHA256": "0" * 64})
    assert altered.status_code == 503
    told = b'{"phase": "converting", "done": 5.5, "of": null, "unit": "percent"}'
    assert node.call("PUT", f"imports/{row.pk}/progress", told, content_type="application/json").status_code == 204
    operation = mia.get(f"{P}/images/mine").data["operation"]
    assert operation["progress"] == {"done": 5, "of": 100, "unit": "%"}
    assert operation["reason"] == "a host converts it"


def test_dry_runs_keep_nothing(mia, node):
    dry = mia.post(f"{P}/images?dry_run=true", UPLOAD)
    assert dry.data["plan"]["created"][0]["name"] == "mine"
    assert not Image.objects.exists()


def test_a_machine_that_cannot_be_is_refused_with_all_faults(mia, project):
    body = {**UPLOAD, "architecture": "aarch64", "firmware": "bios", "disk_bus": "ide"}
    assert {fault["pointer"] for fault in mia.post(f"{P}/images", body).json()["errors"]} == {"/firmware", "/disk_bus"}
    assert mia.post(f"{P}/images", {**UPLOAD, "disk_bus": "ide"}).status_code == 201
    refused = mia.patch(f"{P}/images/mine", {"machine_type": "q35", "nic_bus": "rtl8139"})
    assert (refused.status_code, refused.json()["errors"]) == (
        400,
        [
            {
                "pointer": "/disk_bus",
                "message": NO_IDE,
                "code": "invalid",
            }
        ],
    )
    assert mia.patch(f"{P}/images/mine", {"machine_type": "pc", "nic_bus": "rtl8139"}).status_code == 200
    assert mia.patch(f"{P}/images/mine", {"architecture": "riscv64"}).status_code == 400
    image = Image.objects.get(name="mine")
    assert (image.architecture, image.machine_type, image.disk_bus) == ("x86_64", "pc", "ide")
