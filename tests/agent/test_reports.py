"""Reports that the control plane cannot read, and several in one call."""

import pytest

from agent import control_plane as ours
from agent.errors import Unreachable
from agent.host import MAX_PROBLEMS
from agent.reports import SECONDS_UNTIL_SENT_AGAIN, Reports


def test_an_unreadable_report_is_told_and_not_sent_again_and_again(node, spec, control_plane):
    now = [0.0]
    reports = Reports(node.tools, lambda: now[0])
    control_plane.order("ensure_running", spec, 1)
    node._orders.claim()
    control_plane.unreadable = "seen: “running” is not a valid choice."
    for now[0] in (0.0, 10.0, SECONDS_UNTIL_SENT_AGAIN - 1):
        reports.send()
    assert control_plane.seen(spec["id"]) == ["running"]
    [problem] = reports.problems()
    assert problem == {"what": "report", "problem": control_plane.unreadable, "type": "instance", "id": spec["id"]}
    now[0] = SECONDS_UNTIL_SENT_AGAIN
    reports.send()
    assert control_plane.seen(spec["id"]) == ["running", "running"]


def test_another_report_is_sent_at_once_and_ends_the_problem(node, spec, control_plane):
    control_plane.unreadable = "It cannot be read."
    control_plane.order("ensure_running", spec, 1)
    node.look()
    node.heartbeat()
    assert [each["what"] for each in control_plane.beats[-1]["problems"]] == ["report"]
    control_plane.unreadable = ""
    node.hypervisor.crash(spec["id"])
    node.look()
    assert control_plane.seen(spec["id"]) == ["running", "stopped"]
    node.heartbeat()
    assert control_plane.beats[-1]["problems"] == []


def test_a_heartbeat_tells_so_many_problems_and_no_more(node, control_plane):
    node.problems_of.append(lambda: [{"what": "bells", "problem": "none"}] * (MAX_PROBLEMS + 1))
    node.heartbeat()
    assert len(control_plane.beats[-1]["problems"]) == MAX_PROBLEMS


@pytest.fixture
def owed(node, spec, control_plane):
    """The ids of five machines that run, which the control plane does not know yet."""
    specs = [{**spec, "id": f"{spec['id'][:-1]}{number}", "name": f"vm{number}"} for number in range(5)]
    for each in specs:
        control_plane.order("ensure_running", each, 1)
    node._orders.claim()
    assert len(node.tools.ledger.unanswered()) == 5
    return [each["id"] for each in specs]


def still_owed(node):
    return {entry.id for entry in node.tools.ledger.unanswered()}


def test_several_reports_go_in_one_call(node, owed, control_plane, monkeypatch):
    monkeypatch.setattr(ours, "MAX_REPORTS", 3)
    node.send_reports()
    assert control_plane.calls == [3, 2]
    assert [control_plane.seen(ident) for ident in owed] == [["running"]] * 5
    assert still_owed(node) == set()


def test_an_older_control_plane_gets_them_one_by_one(node, owed, control_plane):
    control_plane.takes_many = False
    node.send_reports()
    assert control_plane.calls == [1] * 5
    assert still_owed(node) == set()


def test_one_that_cannot_be_taken_now_holds_up_no_other(node, owed, control_plane):
    control_plane.stumbles_at = {owed[1]}
    with pytest.raises(Unreachable):
        node.send_reports()
    assert still_owed(node) == {owed[1]}
    control_plane.stumbles_at = set()
    node.send_reports()
    assert (control_plane.calls, still_owed(node)) == ([5, 1], set())


@pytest.mark.parametrize(
    "answer", [{}, {"answers": []}, {"answers": [{"status": 200}] * 5}, {"answers": [{"status": "x", "body": {}}] * 5}]
)
def test_an_answer_that_tells_nothing_of_them_leaves_them_owed(node, owed, control_plane, monkeypatch, answer):
    monkeypatch.setattr(control_plane, "answer", lambda method, path, body: (200, answer))
    with pytest.raises(Unreachable):
        node.send_reports()
    assert still_owed(node) == set(owed)
