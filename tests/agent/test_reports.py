"""Reports that the control plane cannot read."""

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
