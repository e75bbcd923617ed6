"""Volume types: limits that machines are told, also later; prices; one default; some for named projects only."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction

from cloud.costs import sums
from cloud.costs.models import Rental
from cloud.events.services import SYSTEM
from cloud.hosts.invariants import rows
from cloud.hosts.models import Host
from cloud.operations import engine
from cloud.operations.workflow import Topic
from cloud.problems import Conflict
from cloud.tenancy.models import Role
from storage import holders, specs
from storage.models import Snapshot, Volume, VolumeType
from storage.services import attaching, retyping, trash, volume_types, volumes
from storage.services.attaching import Holder
from tests import factories
from tests.clouds import ALICE, wait_until
from tests.storage.clouds import do, make, placed, settle

pytestmark = pytest.mark.django_db
settles = pytest.mark.django_db(transaction=True)  # work runs in transactions of its own
HOLDER = "machine"
FAST = {"iops": 5000, "mib_per_second": 100, "price_per_gib_hour": Decimal("0.5")}


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def machines(monkeypatch):
    """Things that hold volumes. `told`: which of them were told of a change; `slow`: they have not seen to it yet."""

    class Machines:
        slow = False

        def __init__(self):
            self.told = []

        def pending(self, holder_id):
            return Topic(HOLDER, holder_id) if self.slow else None

        def attach(self, *those):
            """Make these the disks of one machine. Returns its id."""
            holder = Holder(HOLDER, uuid.uuid4(), "web")
            for volume in those:
                do(attaching.attach, volume=volume, holder=holder)
            return holder.id

    known = Machines()
    monkeypatch.setattr(holders, "_kinds", {HOLDER: holders.HolderKind(HOLDER, known.told.append, known.pending)})
    return known


def limits_of(machine_id):
    return [disk["limits"] for disk in specs.disks(HOLDER, machine_id, Host.objects.get().pk)]


def retype(volume, to):
    return do(retyping.retype, volume=volume, type=to)


def test_a_machine_is_told_the_limits_of_its_volumes_types(cloud, machines):
    fast = factories.volume_type(**FAST)
    slow = factories.volume_type(iops=100)
    volumes_of = [make(cloud, type=fast), make(cloud, type=slow), make(cloud)]
    assert limits_of(machines.attach(*volumes_of)) == [
        {"iops": 5000, "bytes_per_second": 100 << 20}, {"iops": 100, "bytes_per_second": None}, None,
    ]  # fmt: skip


@settles
def test_another_type_holds_while_the_volume_is_used(cloud, machines):
    volume, fast = placed(cloud), factories.volume_type(**FAST)
    machine = machines.attach(volume)
    machines.slow = True
    work = retype(volume, fast)
    engine.advance(work.pk)
    assert machines.told == [machine]
    assert limits_of(machine) == [{"iops": 5000, "bytes_per_second": 100 << 20}]
    work.refresh_from_db()
    assert "waiting for machine web" in work.reason
    machines.slow = False
    settle(cloud)
    work.refresh_from_db()
    assert work.outcome == "done"
    assert cloud.breaches() == []


@settles
def test_what_is_cancelled_has_its_limits_and_its_price_back(cloud, machines):
    volume = placed(cloud, type=factories.volume_type(**FAST))
    machine = machines.attach(volume)
    machines.slow = True
    work = retype(volume, volume_types.default())
    engine.advance(work.pk)
    assert limits_of(machine) == [None]
    engine.cancel(work.pk, actor=ALICE)
    settle(cloud)
    assert limits_of(machine) == [{"iops": 5000, "bytes_per_second": 100 << 20}]
    assert machines.told == [machine, machine]
    assert sums.of(cloud.project).per_hour == Decimal("0.5")


def test_a_types_new_limits_reach_every_machine_that_uses_it_once(cloud, machines):
    fast, other = factories.volume_type(**FAST), factories.volume_type(iops=100)
    first = machines.attach(make(cloud, type=fast), make(cloud, type=fast))
    second = machines.attach(make(cloud, type=fast))
    machines.attach(make(cloud, type=other))
    make(cloud, type=fast)
    do(volume_types.update, volume_type=fast, changes={"iops": 50, "price_per_gib_hour": Decimal(1)})
    assert sorted(machines.told) == sorted([first, second])
    assert limits_of(second) == [{"iops": 50, "bytes_per_second": 100 << 20}]
    do(volume_types.update, volume_type=fast, changes={"iops": 50, "description": "for databases"})
    assert len(machines.told) == 2


@settles
def test_what_is_made_from_a_volume_has_its_type(cloud):
    volume = placed(cloud, type=factories.volume_type(**FAST))
    do(volumes.snapshot, volume=volume, name="before")
    settle(cloud)
    snapshot = Snapshot.objects.get()
    restored = make(cloud, snapshot=snapshot)
    cloned = do(volumes.clone, volume=volume, name="copy")
    assert restored.type == cloned.type == volume.type
    settle(cloud)
    VolumeType.objects.filter(pk=volume.type_id).update(enabled=False)
    assert make(cloud, snapshot=snapshot).type == volume_types.default()


def hours_ago(hours, volume):
    """As if the volume had had its size and price for so long."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE storage_volume SET priced_since = now() - make_interval(hours => %s) WHERE id = %s",
            [hours, volume.pk],
        )


def spent():
    return round(sum((rental.ended_at - rental.began_at) / timedelta(hours=1) * float(rental.price_per_hour)
                     for rental in Rental.objects.all()), 2)  # fmt: skip


def per_hour(cloud):
    return sums.of(cloud.project).per_hour


@settles
def test_a_volume_costs_its_size_at_the_price_that_its_type_had(cloud):
    fast = factories.volume_type(**FAST)
    volume = make(cloud, size_gib=4, type=fast)
    assert per_hour(cloud) == 2
    do(volume_types.update, volume_type=fast, changes={"price_per_gib_hour": Decimal(9)})
    assert per_hour(cloud) == 2
    hours_ago(10, volume)
    do(volumes.resize, volume=volume, size_gib=6)
    settle(cloud)
    assert (spent(), per_hour(cloud)) == (20, 3)
    hours_ago(11, volume)
    retype(volume, factories.volume_type(price_per_gib_hour=1))
    settle(cloud)
    assert (spent(), per_hour(cloud)) == (53, 6)


@settles
def test_it_costs_nothing_in_the_trash_and_after_it(cloud):
    volume = placed(cloud, size_gib=2, type=factories.volume_type(**FAST))
    hours_ago(10, volume)
    do(trash.discard, volume=volume)
    assert (spent(), per_hour(cloud)) == (10, 0)
    hours_ago(10, volume)
    do(trash.restore, volume=Volume.objects.get())
    assert (spent(), per_hour(cloud)) == (10, 1)
    hours_ago(11, volume)
    do(volumes.delete, volume=Volume.objects.get())
    assert (spent(), per_hour(cloud)) == (21, 0)
    settle(cloud)
    assert not Volume.objects.exists()
    assert spent() == 21


def test_there_is_always_one_default(cloud):
    first = volume_types.default()
    second = do(volume_types.create, wished={"name": "second", "is_default": True})
    assert volume_types.default() == second
    assert make(cloud).type == second
    first.refresh_from_db()
    do(volume_types.update, volume_type=first, changes={"is_default": True})
    assert list(VolumeType.objects.filter(is_default=True)) == [first]
    with pytest.raises(Conflict, match="Make another type the default"):
        do(volume_types.update, volume_type=VolumeType.objects.get(pk=first.pk), changes={"is_default": False})
    with pytest.raises(Conflict, match="Make another type the default"):
        do(volume_types.delete, volume_type=VolumeType.objects.get(pk=first.pk))


@pytest.mark.parametrize("change", [{"enabled": False}, {"public": False}])
def test_the_default_stays_for_everybody(api, cloud_admin, change):
    name = volume_types.default().name
    refused = api.as_(cloud_admin).patch(f"volume-types/{name}", change)
    assert refused.status_code == 409
    assert "make another type the default first" in refused.json()["detail"]


def test_a_type_for_some_projects_is_seen_and_used_there_only(api, cloud, cloud_admin, other_tenant):
    admin, member = api.as_(cloud_admin), api.as_(factories.member(cloud.project, Role.MEMBER))
    body = {"name": "fast", "public": False, "projects": [cloud.project.name], "price_per_gib_hour": "0.25"}
    made = admin.post("volume-types", body)
    assert made.status_code == 201, made.content
    assert [project["name"] for project in made.json()["projects"]] == [cloud.project.name]
    [seen] = member.get("volume-types?name=fast").json()["items"]
    assert (seen["price_per_gib_hour"], seen["projects"]) == ("0.250000", [])
    assert api.as_(other_tenant).get("volume-types/fast").status_code == 404
    wish = {"name": "data", "size_gib": 2, "type": "fast"}
    refused = api.as_(other_tenant).post("projects/elsewhere/volumes", wish)
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/type"]
    volume = member.post(f"projects/{cloud.project.name}/volumes", wish).json()
    assert (volume["type"]["name"], volume["price_per_hour"]) == ("fast", "0.500000")
    assert admin.delete("volume-types/fast").status_code == 409


def test_pages_choose_and_change_the_type(client, cloud, cloud_admin):
    volume_types.default()
    factories.volume_type("fast", **FAST)
    client.force_login(cloud_admin)
    here = f"/projects/{cloud.project.name}/volumes"
    assert "fast, 5000 operations a second, 100 MiB/s, 0.50" in client.get(here).content.decode()
    fast = VolumeType.objects.get(name="fast")
    assert client.post(here, {"name": "data", "size_gib": "2", "type": str(fast.pk)}).status_code == 303
    volume = Volume.objects.get()
    assert volume.type == fast
    assert client.post(f"{here}/{volume.pk}/retype", {"type": str(volume_types.default().pk)}).status_code == 303
    assert Volume.objects.get().type == volume_types.default()
    change = {
        "name": "faster",
        "iops": "9000",
        "price_per_gib_hour": "1",
        "enabled": "on",
        "projects": cloud.project.name,
    }
    assert client.post(f"/cloud/volume-types/{fast.pk}", change).status_code == 303
    fast.refresh_from_db()
    assert (fast.name, fast.iops, fast.mib_per_second, fast.public) == ("faster", 9000, None, False)
    assert [project.name for project in fast.projects.all()] == [cloud.project.name]


@settles
def test_of_two_that_become_the_default_at_once_the_second_is_it():
    first, second = (do(volume_types.create, wished={"name": name}) for name in ("first", "second"))
    volume_types.default()

    def make_second():
        try:
            do(volume_types.update, volume_type=second, changes={"is_default": True})
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        with transaction.atomic():
            volume_types.update(volume_type=first, actor=SYSTEM, changes={"is_default": True})
            waiting = other.submit(make_second)
            wait_until(lambda: rows("SELECT 1 FROM pg_locks WHERE NOT granted"))
        waiting.result()
    assert VolumeType.objects.get(is_default=True) == second
