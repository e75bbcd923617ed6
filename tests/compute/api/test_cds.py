"""CDs in the drive of an instance: put in, changed and taken out, while it runs or stands."""

from importlib import import_module

import pytest
from django.apps import apps

from cloud.hosts.models import Host
from compute import hosted, services
from compute.models import Instance
from storage.models import Image
from tests import factories
from tests.clouds import SmallCloud, iso_on

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def cloud(short_path):
    return SmallCloud(short_path)


@pytest.fixture
def mia(cloud, api):
    return api.as_(factories.member(cloud.project))


@pytest.fixture
def isos(cloud):
    """Two ISOs of the project, whose files its node has."""
    return [factories.image(name, project=cloud.project, files=[iso_on(cloud.node)]) for name in ("one", "two")]


def launched(cloud, image=None):
    cloud.launch(name="web", image=image or cloud.image)
    cloud.settle()
    return Instance.objects.get()


@pytest.fixture
def do(cloud, mia):
    """A verb of the instance by the API, to its end; the answer to it."""

    def post(verb, body=None, status=202):
        answer = mia.post(f"projects/{cloud.project.name}/instances/web/{verb}", body or {})
        assert answer.status_code == status, answer.data
        cloud.settle()
        return answer.json()

    return post


def shown(mia, cloud):
    return mia.get(f"projects/{cloud.project.name}/instances/web").json()["cd"]


def in_drive(cloud, web):
    """What is in the drive of its machine."""
    return cloud.node.hypervisor.cd(str(web.pk))


def name_in_drive(image):
    return f"cd-{image.files[0]['sha256'][:20]}"


def test_cds_are_changed_while_it_runs(cloud, mia, isos, do):
    one, two = isos
    web = launched(cloud, one)
    assert (shown(mia, cloud)["name"], in_drive(cloud, web)) == ("one", name_in_drive(one))
    do("insert-cd", {"image": "two"})
    assert (shown(mia, cloud)["name"], in_drive(cloud, web)) == ("two", name_in_drive(two))
    do("eject-cd")
    assert (shown(mia, cloud), in_drive(cloud, web)) == (None, "")
    assert do("eject-cd", status=409)["detail"] == "web has no CD in its drive."
    for verb in (services.stop, services.start):
        cloud.do(verb, web)
        cloud.settle()
    assert in_drive(cloud, web) == ""  # it keeps its drive
    do("insert-cd", {"image": "two"})
    assert in_drive(cloud, web) == name_in_drive(two)


def test_one_that_stands_has_it_from_its_next_start_on(cloud, mia, isos, do):
    web = launched(cloud)
    refused = do("insert-cd", {"image": "one"}, 409)
    assert refused["detail"] == "web runs without a CD drive. Stop it first: its next start gives it one."
    cloud.do(services.stop, web)
    cloud.settle()
    do("insert-cd", {"image": "one"})
    cloud.do(services.start, web)
    cloud.settle()
    assert in_drive(cloud, web) == name_in_drive(isos[0])


@pytest.mark.parametrize(
    ("traits", "bus"),
    [
        ({}, "scsi"),
        ({"disk_bus": "scsi"}, "scsi"),
        ({"disk_bus": "sata"}, ""),
        ({"os": "windows"}, ""),
    ],
)
def test_a_drive_is_on_what_the_guest_has_a_driver_for(cloud, traits, bus):
    web = launched(cloud, factories.image("own", project=cloud.project, files=cloud.image.files, **traits))
    assert hosted.spec(web.machine, "ensure_running")["cd_bus"] == bus


def test_a_drive_of_an_installer_is_on_what_every_system_knows(cloud, isos):
    web = launched(cloud, isos[0])
    assert hosted.spec(web.machine, "ensure_running")["cd_bus"] == ""


def test_an_iso_in_a_drive_is_in_use_until_it_is_ejected(cloud, mia, isos, do):
    web = launched(cloud, isos[0])
    do("insert-cd", {"image": "two"})
    two = f"projects/{cloud.project.name}/images/two?purge=true"
    refused = mia.delete(two)
    assert (refused.status_code, web.name in refused.data["detail"]) == (409, True)
    do("eject-cd")
    assert mia.delete(two).status_code == 202
    cloud.settle()
    assert not Image.objects.filter(name="two").exists()


def test_a_change_that_is_cancelled_leads_back(cloud, mia, isos):
    one, _ = isos
    web = launched(cloud, one)
    cloud.node.online = False
    here = f"projects/{cloud.project.name}"
    for verb, body in (("insert-cd", {"image": "two"}), ("eject-cd", {})):
        operation = mia.post(f"{here}/instances/web/{verb}", body).json()["operation"]["id"]
        assert mia.post(f"{here}/operations/{operation}/cancel", {}).status_code == 202
        cloud.node.online = True
        cloud.settle()
        cloud.node.online = False
        assert (shown(mia, cloud)["name"], in_drive(cloud, web)) == ("one", name_in_drive(one))


def test_what_is_not_an_iso_is_not_inserted(cloud, mia, isos, do):
    launched(cloud, isos[0])
    [fault] = do("insert-cd", {"image": cloud.image.name}, 400)["errors"]
    assert (fault["pointer"], "is not an ISO" in fault["message"]) == ("/image", True)
    Image.objects.filter(name="two").update(status="importing")
    assert "is not ready" in do("insert-cd", {"image": "two"}, 400)["detail"]
    assert do("insert-cd", {}, 400)["errors"][0]["pointer"] == "/image"
    assert shown(mia, cloud)["name"] == "one"


def test_a_hypervisor_without_cds_refuses_in_words(cloud, isos, do):
    launched(cloud)
    Host.objects.update(capabilities={"hypervisors": {"qemu": {"verbs": ["pause", "plug"]}}})
    assert do("insert-cd", {"image": "one"}, 409)["detail"] == "qemu on its host has no CD drives."


def test_clones_have_the_same_cd(cloud, isos):
    web = launched(cloud, isos[0])
    [clone] = cloud.do(services.clone, web, name="copy")
    cloud.settle()
    assert in_drive(cloud, clone) == name_in_drive(isos[0])


def test_instances_of_an_older_release_keep_their_cd(cloud, isos):
    web, [file] = launched(cloud, isos[0]), isos[0].files
    Instance.objects.update(boot_files=[file], cd=None, cd_drive=False)
    import_module("compute.migrations.0027_cds_of_isos").take_cds_out_of_boot_files(apps, None)
    web.refresh_from_db()
    assert (web.boot_files, web.cd, web.cd_drive) == ([], isos[0], True)
    assert hosted.spec(web.machine, "ensure_running")["image"]["files"] == [file]
