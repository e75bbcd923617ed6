"""A volume is attached from its own page, too."""

import pytest
from django.db import transaction

from storage.models import Volume
from storage.services import volumes
from tests.cloud.dashboard.conftest import ALICE
from tests.good_requests import finish

pytestmark = pytest.mark.django_db


@pytest.fixture
def volume(world) -> Volume:
    with transaction.atomic():
        made = volumes.create(project=world.project, actor=ALICE, name="data", size_gib=1)
    finish("volume")
    return made


@pytest.fixture(autouse=True)
def stopped(world) -> None:
    """Its host can have volumes, but its hypervisor plugs nothing into what runs."""
    world.host.capabilities["volumes"] = {"layers": True}
    world.host.save()
    world.settle(world.instance, "stopped")


@pytest.fixture
def mia(page_of, member):
    return page_of(member)


def path(volume: Volume, verb: str = "") -> str:
    return f"/projects/demo/volumes/{volume.pk}{verb}"


def test_it_is_attached_to_an_instance_that_can_have_it(mia, world, volume):
    world.settle(world.launch("busy"))
    form = mia.get(path(volume, "/attach")).content.decode()
    assert "web (stopped)" in form
    assert "busy (" not in form
    assert "at any time" in mia.get(path(volume)).content.decode()
    sent = mia.post(path(volume, "/attach"), {"instance": world.instance.pk, "read_only": "on"})
    assert (sent.status_code, sent["Location"]) == (303, path(volume))
    held = volume.attachments.get()
    assert (held.holder_id, held.read_only, held.delete_with_holder) == (world.instance.pk, True, False)


def test_another_instance_reads_it_too(mia, world, volume):
    mia.post(path(volume, "/attach"), {"instance": world.instance.pk, "read_only": "on"})
    other = world.launch("other")
    world.settle(other, "stopped")
    form = mia.get(path(volume, "/attach")).content.decode()
    assert ("web reads it." in form, "other (stopped)" in form, "web (stopped)" in form) == (True, True, False)
    dialog = mia.get(f"/projects/demo/instances/{other.pk}/attach-volume").content.decode()
    assert "which others read: read only" in dialog
    sent = mia.post(path(volume, "/attach"), {"instance": other.pk, "read_only": "on"})
    assert sent.status_code == 303
    shown = mia.get(path(volume)).content.decode()
    assert shown.count("detach-volume?chosen=data") == 2
    assert mia.get("/projects/demo/volumes").content.decode().count(">other</a>") == 1


def test_its_page_follows_what_it_is_attached_to(mia, page_of, viewer, world, volume):
    assert "detach-volume" not in mia.get(path(volume)).content.decode()
    mia.post(path(volume, "/attach"), {"instance": world.instance.pk})
    section = mia.get(path(volume), headers={"HX-Target": "volume-holder"}).content.decode()
    assert section.lstrip().startswith("<section")
    assert f"/instances/{world.instance.pk}/detach-volume?chosen=data" in section
    assert "detach-volume" not in page_of(viewer).get(path(volume)).content.decode()
    assert "attached already" in mia.get(path(volume, "/attach")).content.decode()


def test_what_cannot_be_attached_says_why(mia, page_of, other_tenant, world, volume):
    running = world.settle(world.launch("busy"))
    refused = mia.post(path(volume, "/attach"), {"instance": running.pk})
    assert refused.status_code == 409
    assert "Stop it first" in refused.content.decode()
    assert page_of(other_tenant).post(path(volume, "/attach"), {"instance": world.instance.pk}).status_code == 404
    assert mia.post(path(volume, "/attach"), {}).status_code == 400
    assert not volume.attachments.exists()
