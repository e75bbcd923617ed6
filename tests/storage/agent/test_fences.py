"""Who may write what is in a shared folder: two hosts, one of which takes a tree from the other."""

import threading
import time
import uuid
from dataclasses import replace

import pytest

from agent import faults
from agent.errors import Abandoned, Refused
from agent.paths import Paths
from agent.work import Work
from storage.agent import fences as module
from storage.agent.fences import Share, fences_of
from tests.clouds import wait_until

POOL, TREE = str(uuid.uuid4()), str(uuid.uuid4())


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_BEATS", 0.1)


@pytest.fixture
def folder(tmp_path):
    there = tmp_path / "export"
    there.mkdir()
    (there / ".pileus-pool").write_text(POOL)
    return there


@pytest.fixture
def two(tmp_path, folder):
    """Both have the folder."""
    found = []
    for name in ("a", "b"):
        paths = Paths(tmp_path / name, tmp_path / name / "run")
        (paths.home / "pools").mkdir(parents=True)
        (paths.home / "pools" / "nfs").symlink_to(folder)
        found.append(fences_of(paths))
    return found


def share(term, *taken_from):
    return Share(POOL, TREE, term, tuple(taken_from))


def enter(fences, wanted):
    with fences.entered([wanted], Work()):
        pass


def beat(fences, *used):
    """One round; the trees that were to be ended."""
    ended = []
    fences.beat(POOL, lambda: used, ended.append)
    return ended


def in_thread(task):
    thread = threading.Thread(target=task, daemon=True)
    thread.start()
    return thread


def test_a_host_keeps_its_name(tmp_path, two):
    module._of.cache_clear()
    assert fences_of(Paths(tmp_path / "a", tmp_path)).host == two[0].host != two[1].host


def test_who_comes_with_a_lower_term_is_too_late(two):
    a, b = two
    enter(a, share(1))
    enter(b, share(2))
    with pytest.raises(Refused, match="another host has taken this volume over"):
        enter(a, share(1))
    enter(b, share(2))
    enter(a, share(3))
    with pytest.raises(Refused, match="another host"):
        enter(b, share(2))


def test_what_has_it_open_is_ended_and_only_then_is_there_a_beat(two, folder):
    a, b = two
    enter(a, share(1))
    assert beat(a, share(1)) == []
    shown = (folder / "hosts" / a.host).read_text()
    enter(b, share(2))
    assert beat(a, share(1)) == [share(1)]
    assert (folder / "hosts" / a.host).read_text() != shown

    def survive(lost):
        raise Refused("the emulator does not die")

    shown = (folder / "hosts" / a.host).read_text()
    with pytest.raises(Refused):
        a.beat(POOL, lambda: [share(1)], survive)
    assert (folder / "hosts" / a.host).read_text() == shown


def test_a_host_that_lives_lets_go_first(two):
    """It has the tree until its second beat after the other has come."""
    a, b = two
    enter(a, share(1))
    beat(a, share(1))
    taking = in_thread(lambda: b.claim(share(2, a.host), Work()))
    ended = []
    wait_until(lambda: ended.extend(beat(a, *([] if ended else [share(1)]))) or ended, what="it is told")
    assert taking.is_alive(), "one beat may come from before"
    for _ in range(20):
        beat(a)
        taking.join(0.1)
    assert not taking.is_alive()
    enter(b, share(2, a.host))


def test_a_host_that_shows_nothing_is_waited_for_until_it_is_dead(two):
    a, b = two
    enter(a, share(1))
    b.seconds_until_dead = 0.5
    began = time.monotonic()
    b.claim(share(2, a.host), Work())
    assert time.monotonic() - began >= 0.5
    b.seconds_until_dead = 60.0
    began = time.monotonic()
    b.claim(share(2, a.host), Work())
    assert time.monotonic() - began < 60, "once is enough"


def die_while_taking(new, old):
    """The new host dies while it waits for the one before."""
    new.seconds_until_dead = 60.0
    work = Work()
    taking = in_thread(lambda: pytest.raises(Abandoned, new.claim, share(2, old.host), work))
    wait_until(lambda: (owner := new._owner(share(2))) and owner.host == new.host)
    work.abandon()
    taking.join(10)


def test_who_dies_while_waiting_waits_again(two):
    a, b = two
    die_while_taking(b, a)
    assert b._owner(share(2)).waits_for == (a.host,)
    b.seconds_until_dead = 0.3
    b.claim(replace(share(2), taken_from=()), Work())
    assert b._owner(share(2)).waits_for == ()


def test_whom_the_host_before_waited_for_is_waited_for_too(two, tmp_path, folder):
    """Taken from a by b, which died meanwhile, and from that by c."""
    a, b = two
    die_while_taking(b, a)
    paths = Paths(tmp_path / "c", tmp_path)
    (paths.home / "pools").mkdir(parents=True)
    (paths.home / "pools" / "nfs").symlink_to(folder)
    c = fences_of(paths)
    third = in_thread(lambda: c.claim(share(3, b.host), Work()))
    wait_until(lambda: c._owner(share(3)).host == c.host)
    assert set(c._owner(share(3)).waits_for) == {a.host, b.host}
    for _ in range(40):
        beat(a)
        beat(b)
        third.join(0.05)
    assert not third.is_alive()


def test_what_begins_meanwhile_holds_the_beat_up(two, folder):
    """It may have looked before the other host came, and opens the files after that."""
    a, b = two
    enter(a, share(1))
    beat(a)
    shown = (folder / "hosts" / a.host).read_text()

    def begin():
        with a.entered([share(1)], Work()):
            b.claim(share(2), Work())
            beat(a)
            assert (folder / "hosts" / a.host).read_text() == shown

    with pytest.raises(Refused, match="another host"):
        begin()
    beat(a)
    assert (folder / "hosts" / a.host).read_text() != shown


def test_what_nobody_can_read_is_nobodys(two, folder):
    a, _ = two
    enter(a, share(1))
    (folder / "owners" / TREE).write_text("{")
    with pytest.raises(Refused, match="cannot be read: owners/"):
        enter(a, share(1))
    with pytest.raises(Refused):
        beat(a, share(1))


@pytest.mark.parametrize("point", sorted(point for point in faults.POINTS if point.startswith("fences.")))
def test_a_host_that_dies_while_it_takes_a_tree_takes_it_again(two, point, monkeypatch):
    a, b = two
    enter(a, share(1))
    b.seconds_until_dead = 0.2

    def die(name):
        if name == point:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(faults, "reach", die)
        with pytest.raises(KeyboardInterrupt):
            b.claim(share(2, a.host), Work())
    assert b._owner(share(2)).waits_for == (() if point == "fences.before_owner" else (a.host,)), "it has still to wait"
    b.claim(share(2, a.host), Work())
    assert (b._owner(share(2)).host, b._owner(share(2)).waits_for) == (b.host, ())
    with pytest.raises(Refused, match="another host"):
        enter(a, share(1))
