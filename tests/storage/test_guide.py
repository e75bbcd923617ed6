"""The calls of the tenants' guides work, one after the other, in a new project."""

import json
import re
from pathlib import Path

import pytest
from django.db.models.functions import Now

from cloud.events.services import Actor
from cloud.operations.models import Operation
from compute.models import Instance
from storage.models import Backup, Image, Layer
from storage.services import volumes
from tests import factories
from tests.good_requests import finish

DOCS = Path(__file__).parents[2] / "docs"
CALL = re.compile(r"    (GET|POST|PATCH) /api/v1/(\S+)(?: (\{.*\}))?")


def calls_of(guide):
    return [found for line in (DOCS / guide).read_text().splitlines() if (found := CALL.fullmatch(line))]


def make(client, call):
    answer = getattr(client, call[1].lower())(call[2], json.loads(call[3]) if call[3] else None)
    assert answer.status_code in (200, 201, 202), (call[0], answer.content)


@pytest.mark.django_db
def test_every_call_of_the_guide_to_volumes_works(api, member, project):
    factories.flavor("small")
    disk = {"role": "disk", "sha256": "a" * 64, "size": 1, "format": "qcow2", "virtual_bytes": 1 << 30}
    factories.image("debian", files=[disk])
    factories.host(capabilities={"volumes": {"layers": True}})
    client, calls = api.as_(member), calls_of("storage.md")
    assert len(calls) >= 7
    host = factories.host(capabilities={"images": {"backup": True}}, free_disk_gib=200)
    for call in calls:
        Layer.objects.update(host=host if call[2].endswith("/backup") else None)
        make(client, call)
        Backup.objects.update(status="ready", finished_at=Now())  # as if the host had sent it at once
        Operation.objects.filter(subject_type="backup").update(outcome="done", finished_at=Now())
        finish("volume")


@pytest.mark.django_db
def test_every_call_of_the_guide_to_images_works(api, member, project):
    """In a project with an image, and an instance on a host that makes images."""
    disk = {"role": "disk", "sha256": "a" * 64, "size": 1, "format": "qcow2", "virtual_bytes": 1 << 30}
    image = factories.image("debian", project=project, version="13", files=[disk])
    web = Instance.objects.create(
        project=project, name="web", flavor=factories.flavor(), vcpus=1, memory_mib=256, disk_gib=1, image=image,
        boot_files=image.files, created_by="mia", wanted_power="stopped",
    )  # fmt: skip
    has = {"images": {"capture": True}, "volumes": {"layers": True}, "hypervisors": {"qemu": {"verbs": ["cd"]}}}
    host = factories.host(capabilities=has, free_disk_gib=200)
    factories.place(web, host, seen="stopped")
    data = volumes.create(project=project, actor=Actor("mia"), name="data", size_gib=1)
    volumes.snapshot(volume=data, actor=Actor("mia"), name="before-upgrade")
    finish("volume")
    Layer.objects.update(host=host)
    factories.flavor("medium")
    iso = {"role": "cdrom", "sha256": "b" * 64, "size": 1, "format": "raw"}
    client, calls = api.as_(member), calls_of("images.md")
    assert len(calls) >= 5
    for call in calls:
        make(client, call)
        Image.objects.filter(name="installer").update(status="ready", files=[iso])  # as if a host had imported it
