"""Who may write an image in a real Ceph cluster: two hosts, one of which takes it from the other."""

import contextlib
import json
import os
import subprocess
import uuid
from dataclasses import dataclass

import pytest

from agent import faults
from agent.errors import Refused
from agent.jail import Jail
from agent.paths import Paths
from storage.agent.ceph import Clusters
from storage.agent.rbd import NEW, Images, owners_of
from storage.agent.rbd_owners import Claim
from storage.agent.rbd_remote import Remote
from storage.agent.relays import end_all, find
from tests.clouds import wait_until

POINTS = ("rbd.before_owner", "rbd.before_fence", "rbd.before_alone")
TAKEN = "another host has taken this volume over"
GIB = 1 << 30


@dataclass
class Node:
    name: str
    clusters: Clusters
    image: str

    @property
    def images(self):
        [cluster] = self.clusters
        return Images(cluster)

    def claim(self, term, *taken_from):
        Claim(self.name, term, tuple(taken_from)).make(self.images, self.image)

    def open(self, term, *taken_from):
        """The descriptor of a connection to a server of it."""
        [pool] = self.clusters.facts()
        claim = Claim(self.name, term, tuple(taken_from))
        return Remote(self.clusters, pool, self.image, GIB, claim=claim).connect(read_only=False)

    def serves(self):
        return [one.pid for one in find(self.images.cluster.owner) if one.name == self.image]


class Writer:
    """An emulator that has the image open, and writes when it is told to: it needs no agent for that."""

    def __init__(self, connection):
        node = {"driver": "raw", "file": {"driver": "nbd", "server": {"type": "fd", "str": str(connection)}}}
        self.process = subprocess.Popen(
            ["qemu-io", "json:" + json.dumps(node)],
            pass_fds=[connection], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        os.close(connection)
        assert self.write(1), "it can write at first"

    def write(self, pattern, place="0 64k"):
        """Whether it could."""
        self.process.stdin.write(f"write -f -P {pattern} {place}\n")
        self.process.stdin.flush()
        while line := self.process.stdout.readline():
            if "wrote" in line:
                return True
            if "failed" in line:
                return False
        return False

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        with contextlib.suppress(OSError):
            self.process.stdin.close()


@pytest.fixture
def two(tmp_path, ceph):
    """Both reach the pool."""
    image, found = str(uuid.uuid4()), []
    for user in ("one", "two"):
        paths = Paths(tmp_path / user, tmp_path / user / "run")
        ceph.lead_to(paths.home, user)
        found.append(Node(str(uuid.uuid4()), Clusters(paths, Jail()), image))
        wait_until(found[-1].clusters.facts)
    found[0].images.create(image, GIB)
    yield found
    for node in found:
        end_all(node.images.cluster.owner, image)


@pytest.fixture
def writer(two):
    """It writes on the first host."""
    one = Writer(two[0].open(1))
    yield one
    one.end()


def reads(ceph, node, pattern, place="0 64k"):
    return "verification failed" not in ceph.io(node.image, f"read -P {pattern} {place}")


def blocklisted(ceph):
    return {line.split()[0] for line in ceph.ceph("osd", "blocklist", "ls").splitlines() if line}


def test_who_comes_with_a_lower_term_is_too_late(two):
    a, b = two
    a.claim(1)
    b.claim(2)
    with pytest.raises(Refused, match=TAKEN):
        a.claim(1)
    with pytest.raises(Refused, match=TAKEN):
        a.open(1)
    b.claim(2)
    a.claim(3)
    with pytest.raises(Refused, match=TAKEN):
        b.claim(2)


def test_what_still_writes_on_a_silent_host_can_write_no_more(two, ceph, writer):
    a, b = two
    assert writer.write(2)
    other = Writer(b.open(2, a.name))
    try:
        assert reads(ceph, b, 1), "what the new host wrote"
        assert not writer.write(3), "its server has been fenced"
        assert not writer.write(3, "512M 64k"), "everywhere"
        assert other.write(4)
        assert not writer.write(3)
        assert (reads(ceph, b, 4), reads(ceph, b, 0, "512M 64k")) == (True, True)
    finally:
        other.end()
    with pytest.raises(Refused, match=TAKEN):
        a.open(1)


def test_a_host_that_is_back_gets_it_with_the_next_term(two, ceph, writer):
    """Its new programs are others than those that were kept out."""
    a, b = two
    b.claim(2, a.name)
    assert not writer.write(3)
    again = Writer(a.open(3))
    assert again.write(5)
    again.end()
    assert reads(ceph, a, 5)


def test_a_server_that_hangs_meanwhile_can_write_no_more(two, ceph, writer):
    a, b = two
    assert writer.write(2)
    [server] = a.serves()
    os.kill(server, 19)
    try:
        other = Writer(b.open(2, a.name))
        assert other.write(4)
    finally:
        os.kill(server, 18)
    assert not writer.write(3)
    other.end()
    assert reads(ceph, b, 4)


def test_a_move_from_a_host_that_answers_keeps_nobody_out(two, ceph):
    a, b = two
    Writer(a.open(1)).end()
    before = blocklisted(ceph)
    b.claim(2)
    a.claim(3)
    assert blocklisted(ceph) == before


def test_who_opens_it_while_it_is_taken_is_ended(two, monkeypatch):
    """The other host comes after this one has claimed it, before its server has it open."""
    a, b = two
    grow = Images.grow
    monkeypatch.setattr(Images, "grow", lambda *args: (b.claim(2, a.name), grow(*args)))
    with pytest.raises(Refused, match=TAKEN):
        a.open(1)
    wait_until(lambda: not a.serves())


def test_who_opens_it_before_the_other_looks_is_kept_out(two, monkeypatch):
    """It has looked whose it is before the other has said so."""
    a, b = two
    found = []

    def reach(name):
        if name == "rbd.before_owner" and not found:
            found.append(Writer(a.open(1)))

    monkeypatch.setattr(faults, "reach", reach)
    b.claim(2, a.name)
    assert not found[0].write(3)
    found[0].end()


def test_who_says_late_that_it_is_the_owner_changes_nothing(two, monkeypatch):
    """It had looked before the other came, and writes after it."""
    a, b = two

    def reach(name):
        if name == "rbd.before_alone":
            monkeypatch.setattr(faults, "reach", lambda name: None)
            b.claim(2, a.name)

    monkeypatch.setattr(faults, "reach", reach)
    with pytest.raises(Refused, match=TAKEN):
        a.open(1)
    with pytest.raises(Refused, match=TAKEN):
        a.claim(1)
    b.claim(2)


@pytest.mark.parametrize("point", POINTS)
def test_who_dies_while_it_takes_an_image_takes_it_again(two, writer, monkeypatch, point):
    a, b = two

    def die(name):
        if name == point:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(faults, "reach", die)
        with pytest.raises(KeyboardInterrupt):
            b.claim(2, a.name)
    if point == "rbd.before_fence":
        assert writer.write(2), "it is to be kept out still"
    other = Writer(b.open(2, a.name))
    assert not writer.write(3)
    assert other.write(4)
    other.end()


def test_whoever_takes_it_from_one_that_died_while_it_took_it_keeps_out_all(two, writer, monkeypatch):
    a, b = two

    def die(name):
        if name == "rbd.before_fence":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(faults, "reach", die)
        with pytest.raises(KeyboardInterrupt):
            b.claim(2, a.name)
    Claim(str(uuid.uuid4()), 3).make(b.images, b.image)
    assert not writer.write(3)


def test_nothing_is_left_of_an_image_that_goes(two, ceph):
    a, _ = two
    a.claim(1)
    assert owners_of(a.image) in ceph.rados("ls")
    a.images.remove(a.image)
    assert owners_of(a.image) not in ceph.rados("ls")
    a.images.remove(a.image)


def test_a_cluster_that_hangs_is_said(two, ceph, monkeypatch):
    a, b = two
    assert b.images.cluster.pool
    monkeypatch.setattr("storage.agent.ceph.Cluster.patience", 1.0)
    with ceph.hanging(), pytest.raises(Refused, match="does not answer within 1 s"):
        b.claim(2, a.name)


class Another:
    """Says that everything is another host's."""

    def require(self, images, image):
        raise Refused(TAKEN)


CHANGES = {
    "create": lambda images, image: images.create(str(uuid.uuid4()), GIB),
    "create_filled": lambda images, image: images.create_filled(str(uuid.uuid4()), GIB, lambda connect: None),
    "clone": lambda images, image: images.clone(str(uuid.uuid4()), GIB, of=image, layer=image),
    "grow": lambda images, image: images.grow(image, 2 * GIB),
    "keep": lambda images, image: images.keep(image, str(uuid.uuid4())),
    "forget": lambda images, image: images.forget(image, image),
    "empty": lambda images, image: images.empty(image),
    "remove": lambda images, image: images.remove(image),
    "connect": lambda images, image: images.connect(image, read_only=False),
}
NO_CHANGES = {"exists", "size", "kept", "opened_by", "rados"}


def test_every_call_that_changes_an_image_is_known():
    assert {name for name in vars(Images) if not name.startswith("_")} - {"guard"} == CHANGES.keys() | NO_CHANGES


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_changes_an_image_that_is_another_hosts(two, ceph, change):
    a, _ = two
    a.images.keep(a.image, a.image)
    before = ceph.images(), a.images.kept(a.image), a.images.size(a.image)
    with pytest.raises(Refused, match=TAKEN):
        CHANGES[change](Images(a.images.cluster, Another()), a.image)
    assert (ceph.images(), a.images.kept(a.image), a.images.size(a.image)) == before
    assert not a.serves()


def test_a_host_that_is_late_makes_no_image_smaller(two, monkeypatch):
    """It has seen the old size, and the other host has made it larger than what was wanted here."""
    a, b = two
    size = Images.size

    def late(images, image):
        found = size(images, image)
        if images.cluster is a.images.cluster and found < 4 * GIB:
            b.images.grow(image, 4 * GIB)
        return found

    monkeypatch.setattr(Images, "size", late)
    with pytest.raises(Refused):
        a.images.grow(a.image, 2 * GIB)
    monkeypatch.undo()
    assert a.images.size(a.image) == 4 * GIB


def test_who_takes_an_image_keeps_out_who_still_fills_it(two, ceph):
    """What is to become it has another name until it is whole."""
    a, b = two
    a.claim(1)
    new = a.image + NEW
    a.images.create(new, GIB)
    writer = Writer(a.images.connect(new, read_only=False))
    try:
        b.claim(2, a.name)
        assert not writer.write(2)
    finally:
        writer.end()
    end_all(a.images.cluster.owner, new)
    b.images.create_filled(str(uuid.uuid4()), GIB, lambda connect: None)
    mine = Images(a.images.cluster, Claim(a.name, 1))
    with pytest.raises(Refused, match=TAKEN):
        mine._put(a.image)
    b.images._remove(new)
    assert new not in ceph.images()
