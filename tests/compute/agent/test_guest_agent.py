"""Guest agents that answer, lie, are silent and die: what a host believes, does and reports."""

import base64
import contextlib
import json
import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from agent import faults
from agent.errors import NoAnswer
from compute.agent import freezing, guest_agent
from compute.agent.guest_agent import GuestAgent
from compute.agent.guests import Guests, Turn
from tests.agent.looker import Looker
from tests.clouds import wait_until
from tests.fakes import FakeSlots, RemoteNode
from tests.guest_agents import FakeAgent, look

KNOWN = {"version": "7.2.0", "can": ["freeze", "password"]}
LAYERS = [f"{number}f1c1d6e-4c0e-4b43-9d53-2f6f0c1b9a01" for number in (1, 2, 3)]


@pytest.fixture
def hurried(monkeypatch):
    """Whoever is silent is given up soon."""
    for name in ("SECONDS_TO_SYNC", "SECONDS_TO_ANSWER", "SECONDS_TO_FREEZE"):
        monkeypatch.setattr(guest_agent, name, 0.3)


@pytest.fixture
def running(obey, node, spec, tmp_path):
    """A machine with a volume that runs."""
    folder = tmp_path / "agent" / "volumes"
    folder.mkdir(parents=True, exist_ok=True)
    for layer in LAYERS:
        (folder / f"{layer}.raw").write_bytes(bytes(1 << 20))
    obey("ensure_running", with_layers(spec, 1), 1)
    return node.home(spec["id"])


def with_layers(spec, count):
    volume = {
        "id": str(uuid.UUID(int=9)), "slot": 1, "serial": "9", "read_only": False, "boot": False,
        "size_bytes": 1 << 20, "chain": LAYERS[:count], "base_image": None, "limits": None,
    }  # fmt: skip
    return {**spec, "volumes": [volume]}


def volume_of(report):
    return report["facts"]["volumes"][str(uuid.UUID(int=9))]


@contextmanager
def agent_in(node, spec, *commands):
    """An agent that has begun in the guest, and is known."""
    with FakeAgent(node.home(spec["id"]), *commands) as agent:
        node.hypervisor.open_channel(spec["id"])
        assert look(node, spec["id"])
        yield agent


# What a guest says


@contextmanager
def said(answer):
    """A talk with a guest that answers each line with what `answer` makes of its number and its id."""
    ours, theirs = socket.socketpair()

    def reply():
        with theirs, theirs.makefile("rb") as lines, contextlib.suppress(OSError):
            for number, line in enumerate(lines):
                ident = json.loads(line.lstrip(b"\xff"))["arguments"].get("id")
                if (piece := answer(number, ident)) is None:
                    return
                theirs.sendall(piece)

    thread = threading.Thread(target=reply, daemon=True)
    thread.start()
    with ours:
        yield GuestAgent(ours)
    thread.join(10)
    assert not thread.is_alive()


def synced(ident):
    return b"\xff" + json.dumps({"return": ident}).encode() + b"\n"


@pytest.mark.parametrize(
    "before",
    [b"", b'{"return": 5}\n', b"login: \x1b[2J\n\xff\n", b"\xff" * 100, b'\xff{"return": 1}\n\xff[[[[\n', b"{" * 999],
    ids=["nothing", "a late answer", "a login", "delimiters", "another talk", "half an answer"],
)
def test_what_is_left_in_the_channel_is_passed_over(before):
    with said(lambda number, ident: before + synced(ident) if number == 0 else b'{"return": 3}\n') as agent:
        agent.sync()
        assert agent.freeze() == 3


HOSTILE = {
    "silence": lambda number, ident: b"",
    "an end": lambda number, ident: None,
    "another number": lambda number, ident: synced(ident + 1),
    "a word for the number": lambda number, ident: synced(str(ident)),
    "a flood": lambda number, ident: b"x" * (1 << 20),
    "a flood of delimiters": lambda number, ident: b"\xff\n" * (1 << 19),
    "no line": lambda number, ident: b"\xff" + b"[" * 60000,
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_who_does_not_repeat_the_number_is_given_up_soon(answer, hurried):
    began = time.monotonic()
    with said(answer) as agent, pytest.raises(NoAnswer):
        agent.sync()
    assert time.monotonic() - began < 10


NONSENSE = {
    "deep": b"[" * 50000 + b"]" * 50000 + b"\n",
    "deep in an object": b'{"return": ' + b'{"a": ' * 900 + b"1" + b"}" * 901 + b"\n",
    "a huge number": b'{"return": ' + b"9" * 60000 + b"}\n",
    "no object": b"17\n",
    "no JSON": b"\x00\xff\xfe\n",
    "an error": b'{"error": {"class": "GenericError", "desc": "no"}}\n',
    "commands that are none": b'{"return": {"version": 7, "supported_commands": [{"name": []}]}}\n',
    "a list of nothing": b'{"return": {"supported_commands": [null]}}\n',
}


@pytest.mark.parametrize("line", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_no_answer(line, hurried):
    with said(lambda number, ident: synced(ident) if number == 0 else line) as agent:
        agent.sync()
        with pytest.raises(NoAnswer):
            agent.introduce()


def test_of_what_an_agent_says_of_itself_known_words_are_kept():
    told = {"version": "<b>1</b>", "supported_commands": [{"name": name} for name in ("guest-fsfreeze-freeze", "rm")]}
    line = json.dumps({"return": told}).encode() + b"\n"
    with said(lambda number, ident: synced(ident) if number == 0 else line) as agent:
        agent.sync()
        assert agent.introduce() == {"version": "", "can": []}


# The fact


def test_an_agent_that_answers_is_reported_and_one_that_goes_too(node, spec, running, control_plane):
    with agent_in(node, spec) as agent:
        node.send_reports()
        report = control_plane.last(spec["id"])
        assert (report["seen"], report["facts"]["guest_agent"]) == ("running", KNOWN)
        assert volume_of(report)["active"] == LAYERS[0], "what was known stays"
        asked = len(agent.heard)
        assert look(node, spec["id"])
        assert len(agent.heard) == asked, "it is asked once"
        node.hypervisor.open_channel(spec["id"], opened=False)
        assert look(node, spec["id"])
    node.send_reports()
    assert "guest_agent" not in control_plane.last(spec["id"])["facts"]


def test_orders_keep_the_fact_until_another_emulator_runs(node, spec, running, obey):
    with agent_in(node, spec):
        assert obey("ensure_running", with_layers(spec, 1), 2)["facts"]["guest_agent"] == KNOWN
        obey("ensure_stopped", with_layers(spec, 1), 3)
    assert "guest_agent" not in obey("ensure_running", with_layers(spec, 1), 4)["facts"]


def test_a_machine_without_a_channel_is_not_asked(node, spec, running):
    assert look(node, spec["id"])
    assert "guest_agent" not in node.entry(spec["id"]).facts


def test_one_that_is_silent_is_asked_again(node, spec, running, hurried, monkeypatch):
    monkeypatch.setattr("compute.agent.guests.SECONDS_BETWEEN_TRIES", (0.1,))
    monkeypatch.setattr(node, "beside", lambda task: threading.Thread(target=task, daemon=True).start())
    guests = Guests(node, node.machines, node.tools)
    guests.start()
    try:
        with FakeAgent(running) as agent:
            agent.is_silent = True
            node.hypervisor.open_channel(spec["id"])
            guests.ask_soon(spec["id"])
            wait_until(lambda: agent.ignored > 1, 30, what="it is asked, and again")
            agent.is_silent = False
            wait_until(lambda: node.entry(spec["id"]).facts.get("guest_agent") == KNOWN, 30, what="it is asked again")
    finally:
        node.stopping.set()
        guests.ask_soon(spec["id"])  # wakes it
        guests.join(30)
    assert not guests.is_alive()


@pytest.mark.parametrize("problem", [NoAnswer("silence"), RuntimeError("a fault of ours")])
def test_whatever_goes_wrong_a_guest_has_another_turn(node, spec, running, monkeypatch, problem):
    def fail(home):
        raise problem

    guests = Guests(node, node.machines, node.tools)
    monkeypatch.setattr(guest_agent, "meet", fail)
    node.hypervisor.open_channel(spec["id"])
    guests._have_turn(spec["id"], Turn(due=0.0, tries=100_000))
    [turn] = guests._turns.values()
    assert 30 < turn.due - time.monotonic() <= 60


# Freezing


def test_volumes_are_kept_while_the_guest_holds_still(node, spec, running, obey, monkeypatch):
    seen = []
    put = FakeSlots.put_layer_over
    with agent_in(node, spec) as agent:
        monkeypatch.setattr(
            FakeSlots, "put_layer_over", lambda slots, *what: (seen.append(agent.is_frozen), put(slots, *what))
        )
        report = obey("ensure_running", with_layers(spec, 2), 2)
        assert volume_of(report) == {"slot": 1, "active": LAYERS[1], "size_bytes": 1 << 20, "held_still": True}
        assert volume_of(obey("ensure_running", with_layers(spec, 2), 3))["held_still"], "another order changes nothing"
        agent.disks = 0  # it has nothing to freeze
        assert "held_still" not in volume_of(obey("ensure_running", with_layers(spec, 3), 4))
    assert seen == [True, True]
    assert agent.heard.count("guest-fsfreeze-thaw") == agent.heard.count("guest-fsfreeze-freeze") == 2
    assert (agent.is_frozen, freezing.is_noted(running)) == (False, False)


def test_a_guest_that_goes_on_too_early_has_not_held_still(node, spec, running, obey, monkeypatch):
    put = FakeSlots.put_layer_over
    with agent_in(node, spec) as agent:

        def thaw_and_put(slots, *what):
            agent.is_frozen = False
            put(slots, *what)

        monkeypatch.setattr(FakeSlots, "put_layer_over", thaw_and_put)
        assert "held_still" not in volume_of(obey("ensure_running", with_layers(spec, 2), 2))
    assert not freezing.is_noted(running)


@pytest.mark.parametrize("why", ["declines", "is silent", "is not there", "closed the channel", "is paused"])
def test_without_an_answer_volumes_are_kept_all_the_same(node, spec, running, obey, hurried, why):
    commands = ("guest-info",) if why == "declines" else ()
    with agent_in(node, spec, *commands) as agent:
        if why == "is not there":
            running.agent_socket.unlink()
        if why == "closed the channel":
            node.hypervisor.open_channel(spec["id"], opened=False)
        if why == "is paused":
            obey("ensure_paused", with_layers(spec, 1), 2)
        agent.is_silent = why == "is silent"
        verb = "ensure_paused" if why == "is paused" else "ensure_running"
        report = obey(verb, with_layers(spec, 2), 3)
        assert (volume_of(report)["active"], volume_of(report).get("held_still")) == (LAYERS[1], None)
        assert "devices_problem" not in report["facts"]
        assert not agent.is_frozen


def test_a_guest_that_does_not_say_that_it_goes_on_is_a_problem_until_it_does(
    node, spec, running, obey, control_plane, hurried, monkeypatch
):
    asked = []
    monkeypatch.setattr(node.machines, "_guests", SimpleNamespace(ask_soon=asked.append))
    with agent_in(node, spec) as agent:
        agent.commands = tuple(name for name in agent.commands if not name.endswith("thaw"))
        assert "held_still" not in volume_of(obey("ensure_running", with_layers(spec, 2), 2))
        assert agent.is_frozen
        assert asked == [spec["id"]], "whatever holds its order up, the guest is asked to go on"
        with pytest.raises(NoAnswer):
            look(node, spec["id"])
        node.send_reports()
        report = control_plane.last(spec["id"])
        assert (report["seen"], report["facts"]["problem"]) == ("running", freezing.PROBLEM)
        agent.commands = (*agent.commands, "guest-fsfreeze-thaw")
        assert look(node, spec["id"])
        assert not agent.is_frozen
        node.send_reports()
        assert "problem" not in control_plane.last(spec["id"])["facts"]


def test_a_reboot_ends_what_was_frozen(node, spec, running, obey, hurried):
    with agent_in(node, spec) as agent:
        agent.commands = tuple(name for name in agent.commands if not name.endswith("thaw"))
        obey("ensure_running", with_layers(spec, 2), 2)
        assert freezing.is_noted(running)
        obey("ensure_running", {**with_layers(spec, 2), "reboot": {"nonce": "a", "hard": True}}, 3)
        assert not freezing.is_noted(running)


@pytest.fixture(scope="module")
def looker():
    process = Looker("tests.fakes:RemoteNode")
    yield process
    process.close()


@pytest.mark.parametrize("next_one", ["worker", "order"])
@pytest.mark.parametrize("point", sorted(point for point in faults.POINTS if point.startswith("freeze.")))
def test_a_guest_is_let_go_when_the_worker_dies(node, spec, running, looker, control_plane, tmp_path, point, next_one):
    with agent_in(node, spec) as agent:
        control_plane.order("ensure_running", with_layers(spec, 2), 2)
        assert looker.look(control_plane.url, tmp_path, f"kill:{point}", tmp_path / "trace") != 0
        assert point in (tmp_path / "trace").read_text().split()
        assert freezing.is_noted(running)
        assert agent.is_frozen == (point in ("freeze.after_freeze", "freeze.before_thaw"))
        control_plane.leased.clear()
        if next_one == "order":
            assert looker.look(control_plane.url, tmp_path, "", tmp_path / "trace") == 0
        else:
            look(RemoteNode(control_plane.url, tmp_path), spec["id"])
        assert (agent.is_frozen, freezing.is_noted(running)) == (False, False)


# Passwords


def asking(spec, user="root", **more):
    reset = {"id": str(uuid.UUID(int=7)), "user": user, "hash": "$6$salt$hash"}
    return {**with_layers(spec, 1), "seed": {**spec["seed"], "password_reset": reset}, **more}


def test_an_agent_sets_a_password_at_once(node, spec, running, obey):
    with agent_in(node, spec) as agent:
        reboot = {"nonce": str(uuid.UUID(int=7)), "hard": False}  # if it is needed
        facts = obey("ensure_running", asking(spec, reboot=reboot), 2)["facts"]
        assert (facts["password_set"], facts.get("password_reset")) == (str(uuid.UUID(int=7)), None)
        assert {user: base64.b64decode(told) for user, told in agent.passwords.items()} == {"root": b"$6$salt$hash"}
        agent.passwords.clear()
        assert obey("ensure_running", asking(spec, reboot=reboot), 3)["facts"]["password_set"]
        assert not agent.passwords, "once"
    assert (node.hypervisor.starts(spec["id"]), node.hypervisor.resets(spec["id"])) == (1, 0)


def test_what_an_agent_does_not_set_waits_for_the_next_start(node, spec, running, obey):
    with agent_in(node, spec) as agent:
        facts = obey("ensure_running", asking(spec, "nobody-known"), 2)["facts"]
        assert (facts.get("password_set"), facts.get("password_reset"), agent.passwords) == (None, None, {})
        reboot = {"nonce": str(uuid.UUID(int=7)), "hard": True}
        assert obey("ensure_running", asking(spec, "nobody-known", reboot=reboot), 3)["facts"]["password_reset"]
    assert node.hypervisor.starts(spec["id"]) == 2


def test_a_guest_that_was_told_once_is_not_told_again(node, spec, running, obey):
    with agent_in(node, spec) as agent:
        told = asking(spec)
        told["seed"]["password_reset"]["taken"] = True  # by a start of an emulator before this one
        obey("ensure_running", told, 2)
        assert not agent.passwords, "who changed it in the guest since keeps that"
        obey("ensure_running", {**told, "reboot": {"nonce": str(uuid.UUID(int=8)), "hard": True}}, 3)
    assert (node.hypervisor.starts(spec["id"]), node.hypervisor.resets(spec["id"])) == (1, 1)


def test_what_a_guest_says_of_a_password_is_not_repeated(hurried):
    def answer(number, ident):
        return synced(ident) if number == 0 else b'{"error": {"desc": "not $6$salt$hash"}}\n'

    with said(answer) as agent:
        agent.sync()
        with pytest.raises(NoAnswer) as refusal:
            agent.set_password("root", "$6$salt$hash")
    assert "salt" not in str(refusal.value)


def test_a_reboot_for_its_own_sake_is_done_all_the_same(node, spec, running, obey):
    with agent_in(node, spec):
        obey("ensure_running", asking(spec, reboot={"nonce": "another", "hard": True}), 2)
    assert node.hypervisor.resets(spec["id"]) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket away")
def test_a_socket_of_somebody_else_is_not_talked_to(node, spec, running):
    with FakeAgent(running) as agent:
        os.chown(running.agent_socket, 12345, 12345)
        node.hypervisor.open_channel(spec["id"])
        with pytest.raises(NoAnswer, match="not the machine's own"):
            look(node, spec["id"])
        assert not agent.heard
