"""What is promised of the stores of images and backups, whether they are folders or buckets."""

import hashlib
import os
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from storage import buckets, shipping, vault
from storage.store import StoreAway, bucket, incoming, store
from storage.tasks import tend_buckets

CONTENT = os.urandom(100_000)
NAME = hashlib.sha256(CONTENT).hexdigest()
WAITS = hashlib.sha256(b"waits").hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()
MIB = 1 << 20


@pytest.fixture(params=["folder", "waiting for the bucket", "in the bucket"])
def images(request, settings, tmp_path):
    if request.param == "folder":
        settings.IMAGE_STORE = tmp_path / "images"
    else:
        request.getfixturevalue("in_buckets")
    return lambda: at_rest() if request.param == "in the bucket" else store()


def at_rest():
    """The store, when all that waited has been brought to the bucket and is nowhere else."""
    kept, found = shipping.SECONDS_KEPT_AFTER, store()
    found.ship()
    shipping.SECONDS_KEPT_AFTER = -1.0
    try:
        found.ship()
    finally:
        shipping.SECONDS_KEPT_AFTER = kept
    assert not list(found.waiting.names())
    return found


def arrived(content=CONTENT):
    """A file that has just been received."""
    incoming().mkdir(parents=True, exist_ok=True)
    path = incoming() / str(uuid4())
    path.write_bytes(content)
    return path


def test_an_image_store_keeps_files_under_their_sums(images):
    assert not images().has(NAME)
    with pytest.raises(FileNotFoundError):
        images().open(NAME)
    before = time.time()
    came = arrived()
    images().keep(came, NAME)
    assert not came.exists()
    images().keep(arrived(), NAME)
    found = images()
    assert found.has(NAME)
    assert not found.has(OTHER)
    with found.open(NAME) as file:
        assert file.read() == CONTENT
    with found.open(NAME) as file:
        assert file.seek(0, os.SEEK_END) == len(CONTENT)
        file.seek(99_990)
        assert file.read(100) == CONTENT[-10:]
        assert file.read(100) == b""
    [(name, when)] = found.names()
    assert (name, before - 2 < when < time.time() + 2) == (NAME, True)
    found.remove(NAME)
    found.remove(NAME)
    assert not images().has(NAME)
    assert list(images().names()) == []


@pytest.fixture(params=["folder", "bucket"])
def backups(request, settings, tmp_path):
    if request.param == "folder":
        settings.BACKUP_STORE = tmp_path / "backups"
    else:
        request.getfixturevalue("in_buckets")
    return vault.place()


def test_a_backup_store_keeps_blocks_by_name(backups, monkeypatch):
    monkeypatch.setattr(buckets, "PAGE", 2)
    names = {f"project/{number:02}/{uuid4()}" for number in range(5)}
    for name in names:
        backups.write(name, name.encode())
    assert {name: backups.read(name) for name in names} == {name: name.encode() for name in names}
    assert {name for name, _ in backups.files()} == names
    assert all(abs(time.time() - when) < 1800 for _, when in backups.files())
    one, *rest = sorted(names)
    backups.write(one, b"again")
    assert backups.read(one) == b"again"
    backups.remove(one)
    with pytest.raises(FileNotFoundError):
        backups.read(one)
    backups.remove(one, *rest, "never/00/there")
    assert list(backups.files()) == []


# Files that are sent in parts


@pytest.fixture
def large(monkeypatch):
    """A file of three parts: its content and its sum."""
    monkeypatch.setattr(buckets, "PART_BYTES", 5 * MIB)  # S3 takes no smaller ones
    content = os.urandom(11 * MIB)
    return content, hashlib.sha256(content).hexdigest()


def test_a_large_file_is_sent_in_parts(in_buckets, large):
    content, name = large
    store().keep(arrived(content), name)
    with at_rest().open(name) as file:
        assert file.read() == content


def test_nothing_of_a_file_that_is_not_what_its_name_says_is_seen(in_buckets, large, settings):
    content, name = large
    store().keep(arrived(content[:-1] + b"\0"), name)
    store().keep(arrived(), OTHER)
    store().keep(arrived(), NAME)
    with pytest.raises(buckets.Altered, match="not that of its name"):
        store().ship()
    sent = [key for key, _ in bucket(settings.IMAGE_STORE).files()]
    assert sent == [NAME], "the others are sent all the same"


def test_a_store_that_fails_in_the_middle_of_a_file_gets_it_later(in_buckets, large, settings, monkeypatch):
    content, name = large
    store().keep(arrived(content), name)
    send = buckets.Bucket._send_part

    def fail_at_the_third(self, key, upload, number, piece):
        if number == 3:
            raise self.away("the connection was cut")
        return send(self, key, upload, number, piece)

    monkeypatch.setattr(buckets, "SECONDS_REFUSED", -1.0)
    with monkeypatch.context() as failing:
        failing.setattr(buckets.Bucket, "_send_part", fail_at_the_third)
        with pytest.raises(StoreAway):
            store().ship()
        assert in_buckets.keys(settings.IMAGE_STORE.split("/")[2]) == set()
        assert store().has(name)
        with store().open(name) as file:
            assert file.read() == content
    assert store().ship() == 1
    assert bucket(settings.IMAGE_STORE).size(name) == len(content)


def test_an_upload_that_nobody_ends_is_swept(in_buckets, settings, monkeypatch):
    place = bucket(settings.IMAGE_STORE)
    begun = place._ask("create_multipart_upload", NAME)["UploadId"]
    place._send_part(NAME, begun, 1, b"part")
    with monkeypatch.context() as earlier:  # moto calls all of them many years old
        earlier.setattr(buckets, "UNFINISHED_AFTER", timedelta(days=50 * 365))
        assert place.abort_unfinished() == 0, "somebody may be sending it"
    assert place.abort_unfinished() == 1
    assert place.abort_unfinished() == 0


def test_one_that_is_removed_while_it_is_sent_does_not_come_back(in_buckets, settings, monkeypatch):
    store().keep(arrived(), NAME)
    upload = buckets.Bucket.upload

    def removed_meanwhile(self, *arguments):
        store().remove(NAME)
        upload(self, NAME, arrived(), NAME)

    monkeypatch.setattr(buckets.Bucket, "upload", removed_meanwhile)
    assert store().ship() == 0
    assert not store().has(NAME)


def test_one_that_left_the_bucket_too_late_is_sent_again(in_buckets, settings):
    store().keep(arrived(), NAME)
    assert store().ship() == 1
    bucket(settings.IMAGE_STORE).remove(NAME)  # obeyed late: it was meant for an earlier file of the same content
    assert store().ship() == 1
    assert at_rest().has(NAME)


# A store that does not serve


def test_a_silent_store_is_away_and_comes_back(in_buckets):
    vault.place().write("block", b"content")
    with in_buckets.silent():
        place = vault.place()
        for asked in (
            lambda: place.write("block", b"content"),
            lambda: place.read("block"),
            lambda: list(place.files()),
        ):
            with pytest.raises(StoreAway, match="does not answer"):
                asked()
    assert vault.place().read("block") == b"content"


def test_after_a_failed_call_others_are_refused_at_once_and_then_one_tries(in_buckets, monkeypatch):
    place = vault.place()
    place.write("block", b"content")
    monkeypatch.setattr(buckets, "SECONDS_REFUSED", 1000.0)
    place.away("the connection was cut")
    with pytest.raises(StoreAway, match="the connection was cut"):
        vault.place().read("block")
    place._gate.closed_until = 0.0
    assert vault.place().read("block") == b"content"
    assert vault.place().read("block") == b"content"


def test_a_download_that_breaks_off_goes_on_where_it_was(in_buckets, settings, monkeypatch):
    store().keep(arrived(), NAME)
    with at_rest().open(NAME) as file:
        first = file.read(1000)
        file._body.close()
        assert first + file.read() == CONTENT


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"IMAGE_STORE": "s3://absent-bucket"}, "there is no such bucket: make it"),
        ({"BACKUP_STORE": "s3://absent-bucket/x"}, "there is no such bucket: make it"),
        ({"S3": {"endpoint": "http://127.0.0.1:9"}}, "does not answer .*PILEUS_S3_ENDPOINT"),
    ],
)
def test_what_is_set_wrongly_is_told_with_what_to_do(in_buckets, settings, change, words):
    tend_buckets()
    for name, value in change.items():
        setattr(settings, name, {**settings.S3, **value} if isinstance(value, dict) else value)
    with pytest.raises(StoreAway, match=words) as away:
        tend_buckets()
    assert "127.0.0.1" in str(away.value)
    assert "127.0.0.1" not in away.value.detail, "whoever asked is told nothing of the inside"


def test_a_wrong_key_is_told_with_what_to_do(in_buckets):
    with in_buckets.strict(), pytest.raises(StoreAway, match="the key is not known: set PILEUS_S3_ACCESS_KEY"):
        tend_buckets()
    tend_buckets()


def test_looking_leaves_nothing(in_buckets, settings):
    tend_buckets()
    assert in_buckets.keys(settings.IMAGE_STORE.split("/")[2]) == set()


# Moving


def test_images_move_to_a_bucket_and_back_and_damaged_ones_are_named(in_buckets, settings, tmp_path, capsys):
    folder, address, back = tmp_path / "old", settings.IMAGE_STORE, tmp_path / "back"
    folder.mkdir()
    (folder / NAME).write_bytes(CONTENT)
    (folder / OTHER).write_bytes(b"damaged")
    with pytest.raises(CommandError, match=OTHER):
        call_command("copy_store", "images", str(folder), address)
    assert capsys.readouterr().out == "1 copied.\n"
    assert [name for name, _ in bucket(address).files()] == [NAME]
    store().keep(arrived(b"waits"), WAITS)
    call_command("copy_store", "images", address, str(back))
    assert {path.name: path.read_bytes() for path in back.iterdir()} == {NAME: CONTENT, WAITS: b"waits"}
    call_command("copy_store", "images", address, str(back))
    assert capsys.readouterr().out.endswith("0 copied.\n")
    assert (folder / NAME).exists()


def test_backups_move_to_a_bucket(in_buckets, settings, tmp_path, capsys):
    folder, name = tmp_path / "old", f"project/ab/{uuid4()}"
    vault.place_at(folder).write(name, CONTENT)
    for copied in (1, 0):
        call_command("copy_store", "backups", str(folder), settings.BACKUP_STORE)
        assert capsys.readouterr().out == f"{copied} copied.\n"
    assert vault.place().read(name) == CONTENT
    settings.S3 = {**settings.S3, "endpoint": "http://127.0.0.1:9"}
    with pytest.raises(CommandError, match="What was copied stays"):
        call_command("copy_store", "backups", str(folder), settings.BACKUP_STORE)
