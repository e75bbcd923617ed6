"""The cache of image files: nothing is in it but what has the declared sha256."""

import hashlib
import os
import threading
import time

import pytest

from agent.control_plane import ControlPlane
from agent.errors import Abandoned, Refused
from agent.host import Host
from agent.kinds import Tools
from agent.ledger import Ledger
from agent.paths import Paths
from agent.system import MIN_FREE_BYTES
from agent.work import Work
from compute.agent.kinds import Machines
from storage.agent.image_cache import SECONDS_KEPT_UNUSED, ImageCache
from storage.agent.images import Images
from storage.agent.volumes import Volumes
from tests.compute.agent.virtual import put_image_file

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def tools(control_plane, tmp_path):
    paths = Paths(tmp_path / "agent", tmp_path / "run")
    paths.make()
    made = Tools(paths, Ledger(paths.ledger), ControlPlane(control_plane.url))
    made.add(Machines(made, {}))
    return made


@pytest.fixture
def cache(tools):
    return ImageCache(tools.paths, tools.control_plane, tools.is_file_used, tools.problems)


def test_a_file_is_fetched_once_and_cannot_be_written(cache, control_plane, tmp_path):
    file = put_image_file(control_plane, tmp_path, "disk", CONTENT)
    path = cache.fetch(file, Work())
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o444
    control_plane.files.clear()
    assert cache.fetch(file, Work()) == path


def test_other_bytes_never_get_in(cache, control_plane, tmp_path):
    file = put_image_file(control_plane, tmp_path, "disk", CONTENT)
    control_plane.files[file["sha256"]].write_bytes(CONTENT[:-1] + b"!")
    work = Work()
    timer = threading.Timer(0.5, work.abandon)
    timer.start()
    with pytest.raises(Abandoned):
        cache.fetch(file, work)
    assert list(cache.directory.iterdir()) == []


@pytest.mark.parametrize("change", [-1, 1])
def test_another_length_never_gets_in(cache, control_plane, tmp_path, change):
    file = put_image_file(control_plane, tmp_path, "disk", CONTENT)
    file["size"] = len(CONTENT) + change
    work = Work()
    threading.Timer(0.3, work.abandon).start()
    with pytest.raises(Abandoned):
        cache.fetch(file, work)
    assert list(cache.directory.iterdir()) == []


def test_it_waits_for_a_control_plane_that_is_away(cache, control_plane, tmp_path):
    file = put_image_file(control_plane, tmp_path, "disk", CONTENT)
    control_plane.down = True

    def come_back():
        control_plane.down = False

    threading.Timer(0.5, come_back).start()
    assert cache.fetch(file, Work()).read_bytes() == CONTENT


def test_a_file_that_does_not_exist_is_refused(cache):
    with pytest.raises(Refused, match="no image file"):
        cache.fetch({"sha256": hashlib.sha256(b"?").hexdigest(), "size": 1}, Work())


def test_a_name_that_is_no_sum_is_refused(cache):
    with pytest.raises(Refused, match="is not a sha256"):
        cache.fetch({"sha256": "../../etc/passwd", "size": 1}, Work())


def test_a_file_too_large_for_the_disk_is_refused(cache, control_plane, tmp_path):
    file = put_image_file(control_plane, tmp_path, "disk", CONTENT)
    with pytest.raises(Refused, match="no room"):
        cache.fetch({**file, "size": 1 << 50}, Work())


def test_many_who_start_at_once_share_one_download(cache, control_plane, tmp_path):
    file = put_image_file(control_plane, tmp_path, "disk", CONTENT)
    downloads = []
    original = cache._download
    cache._download = lambda *arguments: (downloads.append(1), original(*arguments))
    threads = [threading.Thread(target=cache.fetch, args=(file, Work())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(downloads) == 1


def test_what_no_machine_uses_is_let_go_after_a_week_and_fetched_again_when_it_is_wanted(
    cache, tools, control_plane, tmp_path, kernel_spec
):
    used = put_image_file(control_plane, tmp_path, "used", CONTENT)
    unused = put_image_file(control_plane, tmp_path, "unused", CONTENT[1:])
    fresh = put_image_file(control_plane, tmp_path, "fresh", CONTENT[2:])
    spec = {**kernel_spec, "image": {**kernel_spec["image"], "files": [used]}}
    order = {"id": "1", "resource": {"type": "instance", "id": spec["id"]}, "verb": "ensure_running", "generation": 1}
    tools.ledger.accept({**order, "spec": spec}, "running")
    long_ago = time.time() - SECONDS_KEPT_UNUSED - 1
    for file in (used, unused):
        os.utime(cache.fetch(file, Work()), (long_ago, long_ago))
    cache.fetch(fresh, Work())
    cache.let_go()
    assert {path.name for path in cache.directory.iterdir()} == {used["sha256"], fresh["sha256"]}
    assert cache.fetch(unused, Work()).read_bytes() == CONTENT[1:]


def test_a_download_without_room_takes_that_of_unused_files(cache, control_plane, tmp_path, monkeypatch):
    old = put_image_file(control_plane, tmp_path, "old", CONTENT)
    new = put_image_file(control_plane, tmp_path, "new", CONTENT[1:])
    cache.fetch(old, Work())
    room = MIN_FREE_BYTES + len(CONTENT)
    monkeypatch.setattr(cache, "_free", lambda: room - sum(p.stat().st_size for p in cache.directory.iterdir()))
    cache.fetch(new, Work())
    assert [path.name for path in cache.directory.iterdir()] == [new["sha256"]]


def test_a_file_that_was_damaged_is_found_said_and_fetched_again(cache, control_plane, tmp_path):
    file = put_image_file(control_plane, tmp_path, "disk", CONTENT)
    good = put_image_file(control_plane, tmp_path, "good", CONTENT[1:])
    path = cache.fetch(file, Work())
    cache.fetch(good, Work())
    assert cache.usage()["files"] == 2
    path.chmod(0o644)
    with path.open("r+b") as damaged:
        damaged.seek(1000)
        damaged.write(b"!")
    cache.verify()
    assert [one.name for one in cache.directory.iterdir()] == [good["sha256"]]
    (problem,) = cache.problems
    assert file["sha256"][:12] in problem["problem"]
    assert cache.fetch(file, Work()).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("kind", "cache_of"),
    [
        ("instance", lambda kind: kind.tools.images),
        ("volume", lambda kind: kind.cache),
        ("image", lambda kind: kind.cache),
    ],
)
def test_a_heartbeat_tells_of_a_damaged_file_of_each_kind(tools, control_plane, tmp_path, kind, cache_of):
    tools.add(Volumes(tools), Images(tools))
    host = Host(tools)
    file = put_image_file(control_plane, tmp_path, "disk", CONTENT)
    cache = cache_of(tools.kinds[kind])
    path = cache.fetch(file, Work())
    for _ in range(2):
        path.chmod(0o644)
        path.write_bytes(b"cut off")
        assert cache.fetch(file, Work()).read_bytes() == CONTENT
    host.heartbeat()
    (problem,) = control_plane.beats[-1]["problems"]
    assert problem["what"] == "image cache"
    assert file["sha256"][:12] in problem["problem"]


def test_a_file_that_was_read_today_is_not_read_again(cache, control_plane, tmp_path, monkeypatch):
    cache.fetch(put_image_file(control_plane, tmp_path, "disk", CONTENT), Work())
    cache.verify()
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    cache.verify()


def test_a_file_that_was_cut_off_is_not_used(cache, control_plane, tmp_path):
    file = put_image_file(control_plane, tmp_path, "disk", CONTENT)
    path = cache.fetch(file, Work())
    os.truncate(path, 10)
    assert cache.fetch(file, Work()).read_bytes() == CONTENT
