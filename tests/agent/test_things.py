"""The ground floor of a host with a kind of resource that is no machine: from order to report, and what goes wrong."""

import threading
import uuid
from pathlib import Path

import pytest

from agent import faults, orders, system
from agent.entries import Key
from agent.errors import Abandoned
from agent.work import Work
from tests.agent.looker import Looker
from tests.agent.things import ThingHost

GENERIC = {point for point in faults.POINTS if point.startswith(("orders.", "obey.", "reports.", "revive."))}


@pytest.fixture
def host(control_plane, tmp_path):
    return ThingHost(control_plane.url, tmp_path)


@pytest.fixture
def spec():
    return {"id": str(uuid.uuid4()), "size": 1}


@pytest.fixture
def give(host, control_plane):
    """Give an order, let the host look, and return the last report about that thing."""

    def order(verb, spec, generation=1, type_="thing"):
        control_plane.order(verb, spec, generation, type_)
        host.look_once()
        return control_plane.last(spec["id"])

    return order


def test_an_order_is_obeyed_and_answered_in_the_words_of_its_kind(give, host, spec):
    report = give("ensure_there", spec)
    assert report["resource"] == {"type": "thing", "id": spec["id"]}
    assert (report["generation"], report["seen"], report["facts"]) == (1, "there", {"size": 1})
    assert host.entry(spec["id"]).order is None
    assert host.is_idle()


def test_a_newer_spec_is_obeyed_and_not_an_older_one(give, host, spec):
    give("ensure_there", spec)
    assert give("ensure_there", {**spec, "size": 2}, 2)["facts"] == {"size": 2}
    assert give("ensure_there", spec, 1)["facts"] == {"refused": {"ledger_generation": 2}}
    assert host.things.read(spec["id"])["size"] == 2


def test_a_refusal_is_reported_with_its_reason(give, host, spec):
    host.things.refused = "there is no more room for things"
    report = give("ensure_there", spec)
    assert (report["seen"], report["facts"]) == (
        "broken",
        {"problem": "there is no more room for things", "fix_by": "operator"},
    )


@pytest.mark.parametrize(("type_", "verb", "words"), [
    ("volume", "ensure_there", "resources of the type “volume”"),
    ("thing", "ensure_painted", "the order “ensure_painted” for resources of the type “thing”"),
])  # fmt: skip
def test_what_this_agent_does_not_know_is_reported(give, host, control_plane, spec, type_, verb, words):
    report = give(verb, spec, 3, type_)
    assert (report["resource"]["type"], report["generation"], report["seen"]) == (type_, 3, "broken")
    assert report["facts"] == {"problem": f"the agent of this host, version {system.VERSION}, does not know {words}"}
    assert control_plane.orders == {}


def test_a_resource_of_an_unknown_type_disturbs_nothing(give, host, control_plane, spec):
    give("ensure_there", spec, 1, "volume")
    other = {**spec, "id": str(uuid.uuid4())}
    assert give("ensure_there", other)["seen"] == "there"
    control_plane.unowned = [{"type": "volume", "id": spec["id"]}]
    host.heartbeat()
    assert [(item["type"], item["seen"]) for item in host.inventory()] == [
        ("thing", "there"),
        ("volume", "quarantined"),
    ]
    assert not host.tools.is_file_used("0" * 64)
    assert [host.interrupt(entry, 1) for entry in host.ledger.entries()] == [True, False]
    host.tidy()
    assert give("ensure_there", spec, 2, "volume")["seen"] == "broken"  # and so is the next order for it


def test_orders_for_two_types_with_one_id_are_two_pieces_of_work(host, control_plane, spec):
    threads = []

    def spawn(task):
        threads.append(threading.Thread(target=task))
        threads[-1].start()

    host._orders._spawn = spawn
    with host.tools.lock(spec["id"]):
        for type_ in ("thing", "volume"):
            order = {"id": type_, "resource": {"type": type_, "id": spec["id"]}, "verb": "ensure_there"}
            host._orders.take({**order, "generation": 1, "spec": spec})
        assert all(Key(type_, spec["id"]) in host._orders for type_ in ("thing", "volume"))
    for thread in threads:
        thread.join(30)
    assert {(entry.type, entry.seen) for entry in host.ledger.entries()} == {("thing", "there"), ("volume", "broken")}


@pytest.mark.parametrize(("slow", "obeyed"), [(True, 3), (False, 2)])
def test_orders_that_take_long_do_not_hold_up_others(slow, obeyed, host, control_plane, spec, monkeypatch):
    monkeypatch.setattr(orders, "MAX_IN_HAND", 2)
    monkeypatch.setattr(type(host.things), "is_slow", slow)
    taken = []
    host._orders._spawn = taken.append  # nothing is ever done
    for number in range(3):
        control_plane.order("ensure_there", {**spec, "id": str(uuid.UUID(int=number + 1))}, 1, "thing")
    host.look()
    assert len(taken) == obeyed


def test_what_changes_by_itself_is_seen_once(give, host, control_plane, spec):
    give("ensure_there", spec)
    host.things.file(spec["id"]).unlink()
    for _ in range(2):
        host.look_once()
    assert control_plane.seen(spec["id"]) == ["there", "lost"]


def test_what_nobody_owns_is_quarantined_and_released(give, host, control_plane, spec):
    give("ensure_there", spec)
    control_plane.unowned = [{"type": "instance", "id": spec["id"]}]  # of that id, but no thing
    host.heartbeat()
    assert [item["seen"] for item in host.inventory()] == ["there"]
    control_plane.unowned = [{"type": "thing", "id": spec["id"]}]
    host.heartbeat()
    host.send_reports()
    assert [item["seen"] for item in host.inventory()] == ["quarantined"]
    assert host.things.read(spec["id"])["state"] == "frozen"
    control_plane.unowned = []
    host.heartbeat()
    host.send_reports()
    assert control_plane.seen(spec["id"]) == ["there", "frozen", "there"]


def test_strangers_are_quarantined_and_can_be_had_back(give, host, control_plane, spec):
    give("ensure_there", spec, 5)
    host.ledger.close()
    for file in host.paths.home.glob("ledger*"):
        file.unlink()
    after = host.restart()
    assert [(item["type"], item["id"], item["seen"]) for item in after.inventory()] == [
        ("thing", spec["id"], "quarantined")
    ]
    assert after.things.read(spec["id"])["state"] == "frozen"
    control_plane.order("ensure_there", spec, 6, "thing")
    after.look_once()
    assert control_plane.last(spec["id"])["seen"] == "there"
    assert after.things.read(spec["id"])["made"] == 1


def test_what_went_down_with_its_host_goes_on_once_the_control_plane_agrees(give, host, control_plane, spec):
    give("ensure_there", spec)
    assert host.interrupt(host.entry(spec["id"]), grace=1)
    after = host.restart()
    after.revive()
    assert after.things.read(spec["id"])["state"] == "asleep"  # the report of it is still owed
    after.look_once()
    assert control_plane.seen(spec["id"]) == ["there", "asleep", "there"]


def test_what_went_elsewhere_meanwhile_does_not_go_on(give, host, control_plane, spec):
    give("ensure_there", spec)
    host.interrupt(host.entry(spec["id"]), grace=1)
    control_plane.generations[spec["id"]] = 2
    after = host.restart()
    for _ in range(2):
        after.look_once()
    assert after.things.read(spec["id"])["state"] == "asleep"


def test_a_kind_says_what_the_host_can_do_and_what_it_uses(give, host, control_plane, spec):
    room = host.capacity()["disk_gib"]
    give("ensure_there", {**spec, "size": room, "file": "0" * 64})
    host.heartbeat()
    assert control_plane.beats[-1]["capabilities"]["things"] == ["small"]
    assert host.capacity()["disk_gib"] == pytest.approx(2 * room, rel=0.1)
    assert host.tools.is_file_used("0" * 64)
    assert not host.tools.is_file_used("1" * 64)


def test_work_that_was_abandoned_says_nothing(host, spec):
    work = Work()
    work.abandon()
    order = {"id": "1", "resource": {"type": "thing", "id": spec["id"]}, "verb": "ensure_there", "generation": 1}
    with pytest.raises(Abandoned):
        orders.obey(host.tools, {**order, "spec": spec}, work)
    assert host.ledger.entries() == []


# Killed and refused at every fault point of the ground floor

LIFE = (
    ("ensure_there", "there"),
    ("ensure_asleep", "asleep"),
    ("ensure_there", "there"),
    ("interrupt", "there"),
    ("ensure_gone", "gone"),
)


@pytest.fixture(scope="module")
def looker():
    process = Looker("tests.agent.things:ThingHost")
    yield process
    process.close()


@pytest.mark.parametrize("point", sorted(GENERIC))
@pytest.mark.parametrize("how", ["kill", "refuse"])
def test_a_thing_survives_every_fault_point(how, point, looker, control_plane, tmp_path: Path, spec):
    trace = tmp_path / "trace"
    struck = False

    def look(fault: str = "", verb: str = "look") -> int:
        return looker.look(control_plane.url, tmp_path, fault, trace, verb)

    for generation, (verb, expected) in enumerate(LIFE, start=1):
        fault = f"{how}:{point}"
        if verb == "interrupt":
            look(fault, verb)
        else:
            control_plane.order(verb, spec, generation, "thing")
        look(fault)
        struck = struck or point in trace.read_text().split()
        control_plane.leased.clear()  # as for a worker of a new incarnation
        assert look() == 0
        assert control_plane.seen(spec["id"])[-1] == expected
        assert spec["id"] not in control_plane.orders
        things = ThingHost(control_plane.url, tmp_path).things
        assert things.read(spec["id"]).get("made", 0) == (0 if expected == "gone" else 1)
    assert struck, f"no run reached {point}"
