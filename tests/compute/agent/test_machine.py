"""One machine's life on a host, with the fake hypervisor."""

import threading
import time
import uuid

import pytest

from agent import orders, system
from agent.errors import Unreachable
from compute.agent import upkeep
from compute.agent.machine import GRACE_SECONDS
from storage.agent import qcow2
from tests.fakes import FakeNode
from tests.hosts import make_spec


def test_a_machine_runs_stops_and_goes(obey, node, spec):
    assert obey("ensure_running", spec, 1)["seen"] == "running"
    assert node.hypervisor.running() == {spec["id"]}
    assert obey("ensure_stopped", spec, 2)["seen"] == "stopped"
    assert node.hypervisor.running() == set()
    assert obey("ensure_gone", {"id": spec["id"]}, 3)["seen"] == "gone"
    assert not node.machine(spec["id"]).home.directory.exists()
    assert node.inventory() == []


def test_the_same_order_again_changes_nothing(obey, node, spec):
    for _ in range(3):
        assert obey("ensure_running", spec, 1)["seen"] == "running"
    assert node.hypervisor.starts(spec["id"]) == 1
    for _ in range(3):
        assert obey("ensure_gone", spec, 2)["seen"] == "gone"


def test_sequences_rise(obey, node, spec, control_plane):
    obey("ensure_running", spec, 1)
    obey("ensure_stopped", spec, 2)
    node.restart()
    obey("ensure_running", spec, 3)
    sequences = [report["sequence"] for report in control_plane.reports]
    assert sequences == sorted(set(sequences))
    assert len(sequences) == 3


def test_an_order_from_before_a_delete_is_refused(obey, node, spec):
    obey("ensure_running", spec, 3)
    obey("ensure_gone", spec, 4)
    report = obey("ensure_running", spec, 3)
    assert (report["generation"], report["seen"]) == (3, "gone")
    assert report["facts"] == {"refused": {"ledger_generation": 4}}
    assert node.hypervisor.running() == set()


def test_a_start_that_fails_says_why_and_leaves_nothing(obey, node, spec):
    node.hypervisor.broken = "no such machine type"
    report = obey("ensure_running", spec, 1)
    assert report["seen"] == "broken"
    assert report["facts"]["problem"] == "no such machine type"
    node.hypervisor.broken = ""
    assert obey("ensure_running", spec, 2)["seen"] == "running"


def test_a_hypervisor_that_is_not_here_is_a_reason(obey, spec):
    report = obey("ensure_running", {**spec, "hypervisor": "unicorn"}, 1)
    assert report["facts"]["problem"] == "the hypervisor unicorn does not work on this host"


def test_a_guest_that_ignores_its_button_is_forced_after_the_grace(obey, node, spec):
    node.hypervisor.deaf = True
    obey("ensure_running", spec, 1)
    began = time.monotonic()
    report = obey("ensure_stopped", {**spec, "stop": {"force": False, "grace_seconds": 0.3}}, 2)
    assert report["seen"] == "stopped"
    assert 0.3 <= time.monotonic() - began < GRACE_SECONDS


def test_force_does_not_wait(obey, node, spec):
    node.hypervisor.deaf = True
    obey("ensure_running", spec, 1)
    began = time.monotonic()
    obey("ensure_stopped", {**spec, "stop": {"force": True, "grace_seconds": GRACE_SECONDS}}, 2)
    assert time.monotonic() - began < GRACE_SECONDS
    assert node.hypervisor.running() == set()


@pytest.mark.parametrize("hard", [True, False])
def test_a_reboot_is_done_once_for_each_nonce(obey, node, spec, hard):
    obey("ensure_running", spec, 1)
    for _ in range(3):
        assert obey("ensure_running", {**spec, "reboot": {"nonce": "a", "hard": hard}}, 2)["seen"] == "running"
    assert node.hypervisor.resets(spec["id"]) == 1
    obey("ensure_running", {**spec, "reboot": {"nonce": "b", "hard": hard}}, 3)
    assert node.hypervisor.resets(spec["id"]) == 2
    assert node.hypervisor.starts(spec["id"]) == 1


def test_starting_fulfils_a_reboot(obey, node, spec):
    wish = {**spec, "reboot": {"nonce": "a", "hard": True}}
    obey("ensure_running", wish, 1)
    obey("ensure_running", wish, 2)
    assert node.hypervisor.resets(spec["id"]) == 0


def test_a_guest_is_told_of_a_new_password_by_the_next_reboot_alone(obey, node, spec):
    obey("ensure_running", spec, 1)
    reset = {"id": str(uuid.uuid4()), "user": "root", "hash": "$6$salt$hash"}
    told = {**spec, "seed": {**spec["seed"], "password_reset": reset}}
    assert obey("ensure_running", told, 2)["facts"].get("password_reset") is None
    for nonce, generation in (("a", 3), ("b", 4)):
        report = obey("ensure_running", {**told, "reboot": {"nonce": nonce, "hard": False}}, generation)
        assert report["facts"]["password_reset"] == reset["id"]
    assert (node.hypervisor.starts(spec["id"]), node.hypervisor.resets(spec["id"])) == (2, 1)


def test_a_dead_emulator_is_reported_as_a_crash(obey, node, spec, control_plane):
    obey("ensure_running", spec, 1)
    node.hypervisor.crash(spec["id"])
    node.look()
    report = control_plane.last(spec["id"])
    assert (report["seen"], report["generation"], report["facts"]["cause"]) == ("stopped", 1, "crash")
    assert obey("ensure_running", spec, 2)["seen"] == "running"


def test_a_guest_that_switches_itself_off_is_no_crash(obey, node, spec, control_plane):
    obey("ensure_running", spec, 1)
    node.hypervisor.power_off(spec["id"])
    node.look()
    assert control_plane.last(spec["id"])["facts"]["cause"] == "guest"
    assert node.hypervisor.running() == set()


def test_a_machine_paused_by_a_full_disk_goes_on_when_there_is_room(obey, node, spec, control_plane, monkeypatch):
    obey("ensure_running", spec, 1)
    node.hypervisor.fill_disk(spec["id"])
    monkeypatch.setattr(upkeep, "MIN_FREE_TO_RESUME", 1 << 60)
    node.look()
    report = control_plane.last(spec["id"])
    assert (report["seen"], "full" in report["facts"]["problem"]) == ("paused", True)
    monkeypatch.undo()
    node.look()
    assert control_plane.last(spec["id"])["seen"] == "running"
    assert "problem" not in control_plane.last(spec["id"])["facts"]


def test_the_next_worker_adopts_what_runs(obey, node, spec, control_plane):
    obey("ensure_running", spec, 1)
    reports = len(control_plane.reports)
    after = node.restart()
    after.look()
    assert len(control_plane.reports) == reports
    assert after.hypervisor.running() == {spec["id"]}
    control_plane.order("ensure_running", spec, 2)
    after.look()
    assert after.hypervisor.starts(spec["id"]) == 1


def test_reports_are_kept_until_the_control_plane_answers(obey, node, spec, control_plane):
    obey("ensure_running", spec, 1)
    node.hypervisor.crash(spec["id"])
    node.online = False
    with pytest.raises(Unreachable):
        node.look()
    assert control_plane.last(spec["id"])["seen"] == "running"
    after = node.restart()
    after.look()
    assert control_plane.last(spec["id"])["seen"] == "stopped"


def test_an_outdated_report_is_not_repeated(obey, node, spec, control_plane):
    obey("ensure_running", spec, 1)
    control_plane.generations[spec["id"]] = 2
    node.hypervisor.crash(spec["id"])
    node.look()
    reports = len(control_plane.reports)
    node.look()
    assert len(control_plane.reports) == reports


def test_unowned_machines_are_paused_kept_and_listed(obey, node, spec, control_plane):
    obey("ensure_running", spec, 1)
    control_plane.unowned = [{"type": "instance", "id": spec["id"]}]
    node.heartbeat()
    assert [item["seen"] for item in node.inventory()] == ["quarantined"]
    assert node.machine(spec["id"]).home.disk.exists()
    node.send_reports()
    assert control_plane.last(spec["id"])["seen"] == "paused"
    control_plane.unowned = []
    node.heartbeat()
    node.send_reports()
    assert control_plane.last(spec["id"])["seen"] == "running"


def test_machines_of_a_lost_ledger_are_quarantined_and_can_be_had_back(obey, node, spec, control_plane):
    obey("ensure_running", spec, 5)
    node.ledger.close()
    for file in node.paths.home.glob("ledger*"):
        file.unlink()
    after = node.restart()
    assert [item["seen"] for item in after.inventory()] == ["quarantined"]
    control_plane.order("ensure_running", spec, 6)
    after.look()
    assert control_plane.last(spec["id"])["seen"] == "running"
    assert after.hypervisor.starts(spec["id"]) == 1
    assert control_plane.reports[-1]["sequence"] > control_plane.reports[0]["sequence"]


def test_a_newer_order_takes_over_from_one_in_hand(node, spec, control_plane):
    threads: list[threading.Thread] = []

    def spawn(task):
        threads.append(threading.Thread(target=task))
        threads[-1].start()

    node._orders._spawn = spawn
    node.hypervisor.deaf = True
    control_plane.order("ensure_running", spec, 1)
    node.look()
    threads[-1].join(30)
    control_plane.order("ensure_stopped", spec, 2)
    node.look()
    time.sleep(0.2)
    assert not node.is_idle()
    began = time.monotonic()
    control_plane.order("ensure_gone", spec, 3)
    node.look()
    for thread in threads:
        thread.join(30)
    assert time.monotonic() - began < GRACE_SECONDS
    node.send_reports()
    assert control_plane.seen(spec["id"])[-1] == "gone"
    assert node.hypervisor.running() == set()


def test_a_machine_half_started_by_a_killed_worker_is_not_mistaken_for_the_answer(node, spec, control_plane):
    """It was killed between start and report: what is there is finished, not reported as it happens to be."""
    control_plane.order("ensure_running", spec, 1)
    order = control_plane.answer("POST", "/agent/v1/claim", {"limit": 1, "incarnation": "killed"})[1]["orders"][0]
    node.ledger.accept(order, "running")
    (node.paths.home.parent / "fake" / f"{spec['id']}.json").write_text(
        '{"pid": 5000001, "power": "paused", "starts": 1}'
    )
    after = node.restart()
    after.notice_all(thoroughly=True)
    after.send_reports()
    assert control_plane.reports == []
    after.look()
    assert control_plane.seen(spec["id"]) == ["running"]
    assert after.hypervisor.starts(spec["id"]) == 1


def test_an_order_left_over_that_is_not_ours_any_more_is_dropped(node, spec, control_plane):
    control_plane.order("ensure_running", spec, 1)
    order = control_plane.answer("POST", "/agent/v1/claim", {"limit": 1, "incarnation": "killed"})[1]["orders"][0]
    node.ledger.accept(order, "running")
    control_plane.orders.clear()
    after = node.restart()
    after.look()
    assert after.entry(spec["id"]).order is None
    assert after.hypervisor.running() == set()


def test_work_whose_lease_is_lost_is_abandoned(node, spec, control_plane):
    threads: list[threading.Thread] = []

    def spawn(task):
        threads.append(threading.Thread(target=task))
        threads[-1].start()

    control_plane.order("ensure_running", spec, 1)
    node.look()
    node._orders._spawn = spawn
    node.hypervisor.deaf = True
    control_plane.order("ensure_stopped", spec, 2)
    node.look()
    time.sleep(0.2)
    control_plane.refuse_renewals = True
    node.renew_leases()
    threads[-1].join(30)
    assert node.hypervisor.running() == {spec["id"]}
    assert control_plane.seen(spec["id"]) == ["running"]


def test_machines_stopped_with_their_host_run_again_once_the_control_plane_agrees(obey, node, spec, control_plane):
    obey("ensure_running", spec, 1)
    other = make_spec("stopped-one")
    obey("ensure_running", other, 1)
    obey("ensure_stopped", other, 2)
    assert node.switch_off(spec["id"])
    assert not node.switch_off(other["id"])
    after = node.restart()
    after.online = False
    with pytest.raises(Unreachable):
        after.look()
    after.revive()
    assert after.hypervisor.running() == set()
    after.online = True
    after.look()
    assert after.hypervisor.running() == {spec["id"]}
    assert control_plane.seen(spec["id"]) == ["running", "stopped", "running"]
    assert [r["facts"].get("cause") for r in control_plane.reports if r["resource"]["id"] == spec["id"]][1] == "reboot"


def test_a_machine_that_went_elsewhere_is_not_started_again(obey, node, spec, control_plane):
    obey("ensure_running", spec, 1)
    node.switch_off(spec["id"])
    control_plane.generations[spec["id"]] = 2
    after = node.restart()
    after.look()
    after.look()
    assert after.hypervisor.running() == set()


def test_after_a_host_reboot_without_control_plane_machines_come_back_from_the_ledger(obey, node, spec, monkeypatch):
    obey("ensure_running", spec, 1)
    node.hypervisor.crash(spec["id"])
    monkeypatch.setattr(system, "boot_id", lambda: "another boot")
    after = node.restart()
    after.online = False
    after.notice_all(thoroughly=True)
    after.revive()
    assert after.hypervisor.running() == set()
    after._began -= 61
    after.revive()
    assert after.hypervisor.running() == {spec["id"]}


def test_two_nodes_worth_of_threads_start_a_machine_once(node, spec, control_plane):
    control_plane.order("ensure_running", spec, 1)
    order = dict(control_plane.orders[spec["id"]])
    node.hypervisor.slow = 0.2
    from agent.work import Work

    threads = [threading.Thread(target=orders.obey, args=(node.tools, order, Work(order))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert node.hypervisor.starts(spec["id"]) == 1


def test_ids_that_are_not_uuids_go_nowhere(node: FakeNode):
    with pytest.raises(ValueError):
        node.machine("../../etc")


@pytest.fixture
def volume(node):
    """In a spec: a volume whose one layer is on the host."""
    layer = str(uuid.uuid4())
    node.machines.tools.layers.create(layer, 1 << 30)
    return {
        "id": str(uuid.uuid4()), "slot": 1, "serial": "0123456789abcdef0123", "read_only": False, "boot": False,
        "size_bytes": 1 << 30, "chain": [layer], "base_image": None, "limits": None,
    }  # fmt: skip


def test_volumes_come_and_go_while_it_runs(obey, node, spec, volume):
    obey("ensure_running", spec, 1)
    report = obey("ensure_running", {**spec, "volumes": [volume]}, 2)
    said = {"slot": 1, "active": volume["chain"][0], "size_bytes": 1 << 30}
    assert (report["seen"], report["facts"]["volumes"]) == ("running", {volume["id"]: said})
    assert node.hypervisor.disks(spec["id"]) == {0: spec["id"][:20], 1: volume["serial"]}
    another = {**volume, "id": str(uuid.uuid4()), "serial": "another"}
    assert obey("ensure_running", {**spec, "volumes": [another]}, 3)["seen"] == "running"
    assert node.hypervisor.disks(spec["id"])[1] == "another"
    assert obey("ensure_running", spec, 4)["facts"]["volumes"] == {}
    assert set(node.hypervisor.disks(spec["id"])) == {0}
    assert node.hypervisor.starts(spec["id"]) == 1


def test_a_stopped_machine_takes_its_volumes_at_its_next_start(obey, node, spec, volume):
    obey("ensure_running", spec, 1)
    obey("ensure_stopped", spec, 2)
    assert obey("ensure_stopped", {**spec, "volumes": [volume]}, 3)["seen"] == "stopped"
    report = obey("ensure_running", {**spec, "volumes": [volume]}, 4)
    assert set(report["facts"]["volumes"]) == {volume["id"]}
    assert set(node.hypervisor.disks(spec["id"])) == {0, 1}


def test_a_volume_that_was_grown_while_nothing_had_it_open_is_as_large_at_the_next_start(obey, node, spec, volume):
    obey("ensure_stopped", spec, 1)
    assert obey("ensure_running", {**spec, "volumes": [{**volume, "size_bytes": 3 << 30}]}, 2)["seen"] == "running"
    assert node.machines.tools.layers.size(volume["chain"][0]) == 3 << 30


@pytest.mark.parametrize("verb", ["ensure_stopped", "ensure_running"])
def test_its_own_disk_grows_while_it_is_stopped_and_never_shrinks(obey, node, spec, verb):
    obey("ensure_running", spec, 1)
    disk = node.home(spec["id"]).disk
    assert obey("ensure_running", {**spec, "disk_gib": 2}, 2)["seen"] == "running"
    assert qcow2.virtual_size(disk, "qcow2") == 1 << 30, "its emulator has it open"
    obey("ensure_stopped", spec, 3)
    assert obey(verb, {**spec, "disk_gib": 3}, 4)["seen"] == verb.removeprefix("ensure_")
    assert qcow2.virtual_size(disk, "qcow2") == 3 << 30
    obey("ensure_stopped", spec, 5)
    assert qcow2.virtual_size(disk, "qcow2") == 3 << 30


def test_a_guest_that_does_not_let_go_of_a_disk_is_a_reason_and_no_harm(obey, node, spec, volume):
    obey("ensure_running", {**spec, "volumes": [volume]}, 1)
    node.hypervisor.clings = "its guest does not let go of it"
    report = obey("ensure_running", spec, 2)
    assert (report["seen"], report["facts"]["devices_problem"]) == ("running", "its guest does not let go of it")
    assert set(node.hypervisor.disks(spec["id"])) == {0, 1}


def test_a_machine_can_boot_from_a_volume(obey, node, spec, volume):
    from_volume = {**spec, "volumes": [{**volume, "slot": 0, "boot": True}], "root": {"volume": volume["id"]}}
    assert obey("ensure_running", from_volume, 1)["seen"] == "running"
    home = node.home(spec["id"])
    assert node.hypervisor.disks(spec["id"]) == {0: volume["serial"]}
    assert not home.disk.exists()
    key = home.host_key.read_bytes()
    obey("ensure_stopped", from_volume, 2)
    assert obey("ensure_running", from_volume, 3)["seen"] == "running"
    assert home.host_key.read_bytes() == key


def test_nothing_is_plugged_into_a_machine_of_a_hypervisor_that_cannot(obey, node, spec, volume):
    node.hypervisor.verbs = ["pause"]
    obey("ensure_running", spec, 1)
    report = obey("ensure_running", {**spec, "volumes": [volume]}, 2)
    assert (report["seen"], report["facts"]["volumes"]) == ("running", {})
    assert report["facts"]["devices_problem"] == "qemu plugs nothing in or out while a machine runs"
