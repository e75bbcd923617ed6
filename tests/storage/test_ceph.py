"""Volumes in a Ceph cluster: a real one on this machine, with two hosts that have a user of their own there."""

import json
import os
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from agent.entries import Key
from agent.errors import Refused
from agent.jail import Jail
from agent.paths import Paths
from cloud.hosts.models import Allocation
from cloud.operations.models import Operation
from cloud.operations.troubles import troubles
from cloud.problems import Conflict, Invalid
from compute import services
from compute.first_volumes import Disk
from compute.volumes import UnfitVolumes
from storage.agent.ceph import Cluster, Clusters
from storage.agent.rbd import Images
from storage.hosting import NoRoom
from storage.models import Volume, VolumeType
from storage.services import moving, retyping, trash, volume_types, volumes
from storage.services.volumes import UnfitVolume
from tests.clouds import wait_until
from tests.storage.ceph import POOL
from tests.storage.ceph_clouds import attach, detach, host, image_of, launched, now, plugged, pools_of, reported
from tests.storage.clouds import do, kind_of, make, placed, settle
from tests.storage.test_volumes import an_image

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet_bells")]
PATTERN = "write -P 7 0 64k"


def test_it_is_attached_on_one_host_and_then_on_the_other_and_goes_for_good(two, in_ceph, ceph):
    assert pools_of(two.nodes[0]) == pools_of(two.nodes[1]), "both see the same pool"
    assert in_ceph.pool_kind == "ceph"
    free = host(1).free_disk_gib
    volume, first, other = make(two, type=in_ceph), launched(two, 1), launched(two, 2)
    attach(two, first, volume)
    assert plugged(two, 1, first)[1] == volume.serial
    image = image_of(volume)
    assert image in ceph.images()
    ceph.io(image, PATTERN)
    detach(two, first, volume)
    assert 1 not in plugged(two, 1, first)
    attach(two, other, volume)
    assert plugged(two, 2, other)[1] == volume.serial
    assert (now(volume).active.host, image_of(volume)) == (host(2), image)
    assert "verification failed" not in ceph.io(image, "read -P 7 0 64k")
    assert "verification failed" not in ceph.io(image, "read -P 0 64k 64k")
    assert list(volume.on_hosts.values_list("host__name", flat=True)) == ["node2"]
    assert Allocation.of("volume", volume.pk).get().disk_gib == 0
    assert two.breaches() == []
    detach(two, other, volume)
    do(volumes.delete, volume=now(volume))
    settle(two)
    assert image not in ceph.images(), list(volume.on_hosts.values_list("seen_problem", flat=True))
    assert not Volume.objects.exists()
    assert two.breaches() == []
    for instance in (first, other):
        two.do(services.delete, instance)
    settle(two)
    assert host(1).free_disk_gib >= free


def test_a_host_that_is_away_does_not_keep_it_and_removes_nothing_when_it_is_back(two, in_ceph, ceph):
    volume, other = placed(two, type=in_ceph), launched(two, 2)
    two.nodes[0].online = False
    attach(two, other, volume)
    assert plugged(two, 2, other)[1] == volume.serial
    two.nodes[0].online = True
    settle(two)
    assert image_of(volume) in ceph.images()
    assert list(volume.on_hosts.values_list("host__name", flat=True)) == ["node2"]
    assert two.breaches() == []


def test_it_grows_detached_and_attached(two, in_ceph, ceph):
    volume, instance = placed(two, type=in_ceph), launched(two, 1)
    do(volumes.resize, volume=now(volume), size_gib=2)
    settle(two)
    assert size(ceph, volume) == 2 << 30
    attach(two, instance, volume)
    do(volumes.resize, volume=now(volume), size_gib=3)
    settle(two)
    assert size(ceph, volume) == 3 << 30
    assert not Operation.objects.exclude(outcome="done").exists()
    with pytest.raises(NoRoom, match="The Ceph pool has"):
        do(volumes.resize, volume=now(volume), size_gib=900)


def test_it_begins_with_an_image_and_an_instance_boots_from_it(two, in_ceph, ceph, settings, tmp_path):
    settings.IMAGE_STORE = tmp_path
    image = an_image(tmp_path)
    instance = two.launch(host=host(1), image=image, boot_from=Disk(size_gib=2, type=in_ceph))
    settle(two)
    volume = Volume.objects.get()
    assert plugged(two, 1, instance) == {0: volume.serial}
    assert size(ceph, volume) == 2 << 30
    for place, byte in ("0 64k", 9), ("64k 1M", 0):
        assert "verification failed" not in ceph.io(image_of(volume), f"read -P {byte} {place}")
    assert ceph.images() & {image_of(volume), f"{image_of(volume)}.new"} == {image_of(volume)}
    entry = two.nodes[0].ledger.get(Key("volume", str(volume.pk)))
    assert not kind_of(two).uses_file(entry, image.files[0]["sha256"]), "no host needs the file any more"
    assert two.breaches() == []


def size(ceph, volume):
    return int(ceph.io(image_of(volume), "length").split()[0].split(".")[0]) << 30


def test_what_is_not_possible_there_is_refused_in_words(two, in_ceph):
    volume, local = placed(two, type=in_ceph), make(two)
    refused = [
        (UnfitVolume, lambda: do(retyping.retype, volume=volume, type=local.type)),
        (UnfitVolume, lambda: do(retyping.retype, volume=local, type=in_ceph)),
        (Invalid, lambda: do(volume_types.create, wished={"name": "nowhere", "pool": uuid.uuid4()})),
    ]
    for problem, act in refused:
        with pytest.raises(problem, match=r"Ceph|another place"):
            act()
    with pytest.raises(Conflict, match="stay where they are"):
        do(volume_types.update, volume_type=VolumeType.objects.get(name="ceph"), changes={"pool": None})
    assert not Operation.objects.filter(finished_at=None).exists()


def test_a_host_without_a_key_is_refused_in_words(two, in_ceph):
    volume, other = placed(two, type=in_ceph), launched(two, 2)
    (two.nodes[1].paths.home / "ceph" / "main" / "ceph.client.two.keyring").unlink()
    two.nodes[1].heartbeat()
    with pytest.raises(UnfitVolumes, match="does not reach the Ceph pool of"):
        two.do(services.attach_volume, other, volume=volume)
    with pytest.raises(UnfitVolume, match="does not reach the Ceph pool of"):
        do(moving.move, volume=volume, host=host(2))


def test_a_cluster_that_hangs_keeps_nobody_waiting_and_is_on_the_health_page(two, in_ceph, ceph, clusters, monkeypatch):
    monkeypatch.setattr("storage.agent.ceph.SECONDS_BETWEEN_LOOKS", 0.0)
    volume = placed(two, type=in_ceph)
    two.nodes[0].problems_of.append(clusters.problems)
    with ceph.hanging(), monkeypatch.context() as short:
        short.setattr(Cluster, "patience", 1.0)
        began = time.monotonic()
        do(volumes.resize, volume=volume, size_gib=2)
        settle(two)
        said = Operation.objects.filter(kind="storage.resize_volume").get()
        assert (said.outcome, "does not answer within 1 s" in said.reason) == ("failed", True)
        wait_until(lambda: not reported(two, 1))
        two.nodes[0].heartbeat()
        assert time.monotonic() - began < 60
        [told] = [one for one in troubles() if one.title == "Ceph pools that hosts cannot use"]
        assert "main: the Ceph cluster of main does not answer" in told.cases[0].words
    wait_until(lambda: reported(two, 1))
    do(volumes.resize, volume=now(volume), size_gib=3)
    settle(two)
    assert size(ceph, volume) == 3 << 30
    assert not [one for one in troubles() if one.title == "Ceph pools that hosts cannot use"]


def test_what_somebody_began_to_make_and_died_is_made(clusters, ceph):
    [cluster] = map(Images, clusters)
    name = str(uuid.uuid4())
    cluster.create(name, 1 << 30)
    header = "rbd_header." + next(
        line.split(".")[-1] for line in ceph.rbd("info", f"volumes/{name}").splitlines() if "block_name_prefix" in line
    )
    ceph.rados("rm", header)
    assert not cluster.exists(name)
    cluster.create(name, 2 << 30)
    assert cluster.size(name) == 2 << 30
    cluster.remove(name)
    cluster.remove(name)
    assert name not in ceph.images()


def test_a_pool_that_is_gone_is_not_taken_for_an_image_that_is_gone(clusters, ceph):
    [pool] = clusters.facts()
    images, image = Images(clusters.get(pool)), str(uuid.uuid4())
    images.create(image, 1 << 30)
    ceph.ceph("osd", "pool", "rename", POOL, "other")
    try:
        for do_it in images.exists, images.kept, images.remove:
            with pytest.raises(Refused, match="pool"):
                do_it(image)
    finally:
        ceph.ceph("osd", "pool", "rename", "other", POOL)
    assert image in ceph.images()
    with pytest.raises(Refused, match="in Ceph already"):
        images.create(image, 1 << 30)
    assert image in ceph.images()
    images.remove(image)
    assert image not in ceph.images()


def test_a_server_has_no_rights_shows_no_key_and_ends_with_its_connection(ceph, tmp_path):
    paths, is_root = Paths(tmp_path / "agent", tmp_path / "run"), os.geteuid() == 0
    ceph.lead_to(paths.home, "one")
    [cluster] = map(Images, Clusters(paths, Jail(uid=is_root, capabilities=is_root)))
    name = str(uuid.uuid4())
    cluster.create(name, 1 << 30)
    connection = cluster.connect(name, 2 << 30, read_only=False)
    server = server_of(name)
    key = cluster.cluster.keyring.read_text().split("key = ")[1].split()[0]
    told = (server / "cmdline").read_text() + (server / "environ").read_text()
    assert (key in told, cluster.cluster.user in told) == (False, True)
    status = dict(line.split(":\t", 1) for line in (server / "status").read_text().splitlines() if ":\t" in line)
    if is_root:
        assert (set(status["Uid"].split()) & {"0"}, int(status["CapEff"], 16), status["NoNewPrivs"]) == (set(), 0, "1")
    assert cluster.size(name) == 2 << 30
    node = {"driver": "raw", "file": {"driver": "nbd", "server": {"type": "fd", "str": str(connection)}}}
    emulator = ["qemu-io", "-c", PATTERN, "json:" + json.dumps(node)]
    subprocess.run(emulator, check=True, pass_fds=[connection], stdout=subprocess.DEVNULL)
    os.close(connection)
    wait_until(lambda: server_of(name) is None)
    assert "verification failed" not in ceph.io(name, "read -P 7 0 64k")
    os.close(cluster.connect(name, 1 << 30, read_only=False))
    assert server_of(name), "nobody has spoken to it"
    Clusters(Paths(tmp_path / "other", tmp_path / "run"), Jail()).let_go(name)
    assert server_of(name), "it is another agent's"
    with pytest.raises(Refused, match="could not be opened: .*No such file or directory"):
        cluster.connect(str(uuid.uuid4()), 1 << 30, read_only=True)
    cluster.remove(name)
    assert server_of(name) is None


def server_of(image):
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if os.path.basename(words[0]) == "qemu-nbd" and image in words[-2]:
            return process
    return None


def test_it_waits_in_the_trash_and_comes_back(two, in_ceph, ceph):
    volume = placed(two, type=in_ceph)
    ceph.io(image_of(volume), PATTERN)
    do(trash.discard, volume=volume)
    settle(two)
    do(trash.restore, volume=now(volume))
    settle(two)
    assert "verification failed" not in ceph.io(image_of(volume), "read -P 7 0 64k")


def test_nobody_waits_for_a_cluster_that_is_away_to_find_another(tmp_path, monkeypatch):
    paths = Paths(tmp_path / "agent", tmp_path / "run")
    for name in ("away", "main"):
        folder = paths.home / "ceph" / name
        folder.mkdir(parents=True)
        (folder / "ceph.conf").touch()
        (folder / "ceph.client.pileus.keyring").touch()
    clusters = Clusters(paths, Jail())
    away, main = clusters
    asked = []
    monkeypatch.setattr(Cluster, "run", lambda cluster, *command, **how: asked.append(cluster.name))
    vars(main)["id"] = "known"  # as it is once it has answered
    assert (clusters.get("known"), asked) == (main, [])
    assert not away.is_known


def test_a_wrong_pool_is_said_in_words(ceph, tmp_path):
    paths = Paths(tmp_path / "agent", tmp_path / "run")
    ceph.lead_to(paths.home, "one")
    conf = paths.home / "ceph" / "main" / "ceph.conf"
    conf.write_text(conf.read_text().replace("rbd_default_pool = volumes", "rbd_default_pool = vlumes"))
    found = Clusters(paths, Jail())
    wait_until(lambda: found.facts() == {} and found.problems())
    assert "has no pool vlumes" in found.problems()[0]["problem"]
