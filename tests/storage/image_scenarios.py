"""How every kind of operation on an image, or on a backup, comes about."""

from typing import Any
from uuid import UUID

from django.db import transaction

from storage.models import Backup, Image, ImageExport, ImageImport, Layer, Volume
from storage.services import backups, drills, exports, images, volumes
from tests import factories
from tests.clouds import ALICE, SmallCloud
from tests.scenarios import Scenario, after
from tests.storage.node import ImageNode


class Images:
    """Images as subjects: no host works on one that is at rest."""

    def seen(self, subject_id: UUID) -> str | None:
        return Image.objects.filter(pk=subject_id).values_list("status", flat=True).first()

    def delete(self, cloud: SmallCloud, subject_id: UUID) -> None:
        remove(cloud, Image.objects.get(pk=subject_id))

    def check(self, cloud: SmallCloud, subject_id: UUID) -> None:
        assert not ImageImport.objects.filter(image=subject_id, wanted=True).exists()


def fetch(cloud: SmallCloud, _: Any = None) -> Image:
    source = {"kind": "url", "url": "https://example.org/guest.qcow2"}
    with transaction.atomic():
        return images.begin(project=cloud.project, actor=ALICE, name=factories.name("image"), source=source)


def remove(cloud: SmallCloud, image: Image) -> None:
    with transaction.atomic():
        images.delete(image=image, actor=ALICE)


def some_host(cloud: SmallCloud) -> ImageNode:
    """The host that makes images, as one of the cloud's nodes; it joins when it is first asked for."""
    if not isinstance(cloud.nodes[-1], ImageNode):
        cloud.nodes.append(ImageNode())
    return cloud.nodes[-1]


def failing_first(cloud: SmallCloud) -> None:
    """The first host to be asked fails, so that another one has to try."""
    if not isinstance(some_host(cloud), ImageNode) or not isinstance(cloud.nodes[-2], ImageNode):
        cloud.nodes.append(ImageNode("another"))
    ImageNode.failures[:] = ["its disk is full"]


def ready(cloud: SmallCloud) -> Image:
    some_host(cloud).failures.clear()
    image = fetch(cloud)
    cloud.settle()
    return image


class Exports:
    """Exports as subjects."""

    def seen(self, subject_id: UUID) -> str | None:
        return ImageExport.objects.filter(pk=subject_id).values_list("status", flat=True).first()

    def delete(self, cloud: SmallCloud, subject_id: UUID) -> None:
        drop(cloud, ImageExport.objects.get(pk=subject_id))

    def check(self, cloud: SmallCloud, subject_id: UUID) -> None:
        assert not ImageImport.objects.filter(export=subject_id, wanted=True).exists()


def export(cloud: SmallCloud, image: Image) -> ImageExport:
    with transaction.atomic():
        return exports.begin(image=image, project=cloud.project, actor=ALICE, format="qcow2")


def drop(cloud: SmallCloud, one: ImageExport) -> None:
    with transaction.atomic():
        exports.delete(export=one, actor=ALICE)


def ready_for_a_failing_host(cloud: SmallCloud) -> Image:
    image = ready(cloud)
    failing_first(cloud)
    return image


def exported(cloud: SmallCloud) -> ImageExport:
    one = export(cloud, ready(cloud))
    cloud.settle()
    return one


class Backups:
    """Backups as subjects."""

    def seen(self, subject_id: UUID) -> str | None:
        return Backup.objects.filter(pk=subject_id).values_list("status", flat=True).first()

    def delete(self, cloud: SmallCloud, subject_id: UUID) -> None:
        forget(cloud, Backup.objects.get(pk=subject_id))

    def check(self, cloud: SmallCloud, subject_id: UUID) -> None:
        assert not ImageImport.objects.filter(backup=subject_id, wanted=True).exists()


def on_the_host(cloud: SmallCloud) -> Volume:
    """A volume whose data is on the host that makes backups."""
    with transaction.atomic():
        volume = volumes.create(project=cloud.project, actor=ALICE, name=factories.name("data"), size_gib=1)
        Layer.objects.filter(pk=volume.active_id).update(host=some_host(cloud).host)
    return Volume.objects.get(pk=volume.pk)


def on_a_failing_host(cloud: SmallCloud) -> Volume:
    """Its host fails once, so that it has to try again."""
    volume = on_the_host(cloud)
    ImageNode.failures[:] = ["its disk is full"]
    return volume


def back_up(cloud: SmallCloud, volume: Volume) -> Backup:
    with transaction.atomic():
        return backups.create(volume=volume, actor=ALICE, name=factories.name("backup"))


def backed_up(cloud: SmallCloud) -> Backup:
    some_host(cloud).failures.clear()
    backup = back_up(cloud, on_the_host(cloud))
    cloud.settle()
    return Backup.objects.get(pk=backup.pk)


def forget(cloud: SmallCloud, backup: Backup) -> None:
    with transaction.atomic():
        backups.delete(backup=backup, actor=ALICE)


def backed_up_and_failing_first(cloud: SmallCloud) -> Backup:
    backup = backed_up(cloud)
    failing_first(cloud)
    return backup


def drill(cloud: SmallCloud, backup: Backup) -> None:
    with transaction.atomic():
        drills.drill(backup=backup, actor=ALICE)


SCENARIOS = [
    Scenario(
        "storage.drill_backup", Backups(), backed_up_and_failing_first, drill, after=after("ready", otherwise="ready")
    ),
    Scenario("storage.back_up", Backups(), on_a_failing_host, back_up, after=after("ready", otherwise="failed")),
    Scenario(
        "storage.delete_backup", Backups(), backed_up, forget, after=after(None, otherwise="ready"), deleted="done"
    ),
    Scenario("storage.import", Images(), failing_first, fetch, after=after("ready", otherwise="failed")),
    Scenario("storage.export", Exports(), ready_for_a_failing_host, export, after=after("ready", otherwise="failed")),
    Scenario("storage.delete_export", Exports(), exported, drop, after=after(None, otherwise="ready")),
    Scenario("storage.delete_image", Images(), ready, remove, after=after(None, otherwise="ready")),
]
