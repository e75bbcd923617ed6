"""What a name of an image means, who sees which, and that only a ready one launches."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from cloud.events.services import SYSTEM
from compute import services
from compute.services.problems import UnfitLaunch
from storage.models import Image, ImageShare
from storage.services import captures, exports, image_called, images_of
from storage.workflows.images import learnt
from tests import factories

pytestmark = pytest.mark.django_db


def found(project, reference):
    return image_called(reference, project)


def test_a_name_means_the_newest_that_is_ready_and_not_deprecated():
    project = factories.project()
    old = factories.image("debian", version="12", project=project, created_at=Now() - timedelta(days=2))
    new = factories.image("debian", version="13", project=project, created_at=Now() - timedelta(days=1))
    factories.image("debian", version="14", project=project, status="importing")
    meant = [found(project, reference) for reference in ("debian", "debian:latest", "debian:12", str(old.pk))]
    assert meant == [new, new, old, old]
    Image.objects.filter(pk=new.pk).update(deprecated_at=Now())
    assert found(project, "debian") == old
    assert found(project, "debian:13") == new


def test_nobody_puts_an_image_of_theirs_before_a_public_one():
    victim, other = factories.project(), factories.project()
    public = factories.image("debian")
    shared = factories.image("debian", project=other, visibility="shared")
    ImageShare.objects.create(image=shared, project=victim)
    assert set(images_of(victim)) == {public, shared}
    assert found(victim, "debian") == public
    own = factories.image("debian", project=victim)
    assert found(victim, "debian") == own
    assert set(images_of(factories.project())) == {public}


@pytest.mark.parametrize("status", ["waiting", "importing", "failed"])
def test_only_a_ready_image_launches(status):
    image = factories.image(status=status)
    with pytest.raises(UnfitLaunch) as refused:
        services.launch(project=factories.project(), actor=SYSTEM, name="web", flavor=factories.flavor(), image=image)
    assert [fault.pointer for fault in refused.value.errors] == ["/image"]
    assert image.name in refused.value.detail


def test_an_iso_needs_no_disk_of_its_size_and_is_in_no_image_of_an_instance():
    file = {"role": "cdrom", "sha256": "a", "size": 5 << 30, "format": "raw", "virtual_bytes": 5 << 30}
    image = factories.image(files=[file])
    assert learnt(image) == {"min_disk_gib": 1}
    assert (image.boot_files, image.disks, image.is_cdrom) == ([file], [], True)
    assert "is an ISO, and has no disk" in exports.why_not(image)
    kernel = {"role": "kernel", "sha256": "k", "size": 1, "format": None}
    host = factories.host(capabilities={"images": {"capture": True}})
    captured = captures.begin(
        project=factories.project(), actor=SYSTEM, name="made", source={"kind": "instance"}, host=host, gib=1,
        boot_files=[kernel, file], architecture="x86_64", hypervisors=["qemu"],
    )  # fmt: skip
    assert captured.source["boot_files"] == [kernel]


def test_a_machine_boots_from_the_first_of_several_disks():
    disk = {"role": "disk", "sha256": "a", "size": 1, "format": "qcow2"}
    further = [{**disk, "index": number} for number in (1, 2)]
    image = factories.image(files=[{**disk, "index": 0}, *further, {"role": "kernel", "sha256": "k"}])
    assert [(file["role"], file.get("index")) for file in image.boot_files] == [("disk", 0), ("kernel", None)]
    assert factories.image(files=[]).boot_files == []
