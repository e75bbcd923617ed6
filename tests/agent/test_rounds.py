"""The clock of a node."""

import threading
import time

from agent import rounds as rounds_module
from agent.errors import Unreachable
from agent.rounds import Inspections, Round, Rounds
from tests.compute.agent.test_qemu import wait_for


def test_a_round_without_answer_is_tried_again_soon_and_then_later():
    def fail():
        raise Unreachable("no")

    each = Round("look", 15, fail)
    pauses = []
    for _ in range(8):
        each.run()
        pauses.append(round(each.due - time.monotonic()))
    assert pauses == [1, 2, 4, 8, 15, 15, 15, 15]
    each.task = lambda: None
    each.run()
    assert each.failures == 0


def test_a_round_that_fails_in_another_way_does_not_end_the_clock():
    def fail():
        raise KeyError("a mistake")

    each = Round("look", 15, fail)
    each.run()
    assert 14 < each.due - time.monotonic() <= 15


def test_the_bell_and_changes_hasten(node, control_plane, spec, monkeypatch):
    """By itself nothing would come in time."""
    monkeypatch.setattr(rounds_module, "SECONDS_BETWEEN_LOOKS", 600.0)
    woken = threading.Event()
    node.machines.wake = woken.set
    rounds = Rounds(node, 600, lambda answer: None)
    rounds.start()
    wait_for(lambda: rounds._look.due > time.monotonic(), 60)
    control_plane.order("ensure_running", spec, 1)
    rounds.ring()
    wait_for(lambda: control_plane.seen(spec["id"]) == ["running"], 60)
    wait_for(lambda: control_plane.beats[-1]["inventory"], 60)  # because something changed
    assert woken.is_set()
    node.hypervisor.crash(spec["id"])
    Inspections(node).start()
    wait_for(lambda: control_plane.seen(spec["id"]) == ["running", "stopped"], 60)
    node.stop()
    rounds.join(30)
    assert not rounds.is_alive()


def test_a_machine_that_could_not_be_seen_is_looked_at_again(obey, node, spec, control_plane):
    obey("ensure_running", spec)
    node.hypervisor.power_off(spec["id"])
    with node.tools.lock(spec["id"]):
        node.notice(node.machine(spec["id"]).key)
    node.notice_all(thoroughly=False)
    node.send_reports()
    assert control_plane.last(spec["id"])["facts"]["cause"] == "guest"


def test_an_emulator_that_does_not_answer_is_no_crash(obey, node, spec, control_plane):
    obey("ensure_running", spec)
    node.hypervisor.mute = True
    node.notice_all(thoroughly=True)
    node.send_reports()
    assert control_plane.seen(spec["id"]) == ["running"]


def test_a_heartbeat_does_not_wait_for_an_order_that_takes_its_time(obey, node, spec, control_plane):
    obey("ensure_running", spec)
    control_plane.unowned = [{"type": "instance", "id": spec["id"]}]
    with node.tools.lock(spec["id"]):
        node.heartbeat()
    assert not node.entry(spec["id"]).quarantined
    node.heartbeat()
    assert node.entry(spec["id"]).quarantined
