"""What a host says of a guest: what it means in words, and that a host may say whatever it likes."""

from types import SimpleNamespace

import pytest

from network.agent import counting, examining, leases, questions, sending
from network.doctor import closer, evidence
from network.doctor.evidence import Seen, Silence
from network.doctor.hops import Wish, first_blocked, ok

SSH, WEB, NAMES, PING = Wish("tcp", 22), Wish("tcp", 80), Wish("udp", 53), Wish("icmp")
TARGET = SimpleNamespace(
    address="10.0.0.5",
    port_id="p",
    port=SimpleNamespace(holder_name="web", host_id="h"),
    subnet=SimpleNamespace(family=4, dhcp=True),
)
WAY = (ok("nic", "", ""), ok("way_in", "", ""), ok("ingress", "", ""))
GOOD = {
    "nic": "up",
    "watched_seconds": 7200,
    "lease": {"kind": "given", "address": "10.0.0.5", "seconds_ago": 61},
    "received_packets": 10,
    "received_bytes": 1000,
    "sent_packets": 9,
    "sent_bytes": 900,
    "dropped": {"ingress_refused": 3, "not_tracked": 1},
    "is_there": True,
    "answer": "open",
    "has_rival": False,
    "tried": "unanswered",
}
SILENT = {"is_there": False, "answer": "silent"}
SPOOFING = {"dropped": {"spoofed_address": 4}, "lease": None}


def lease(kind: str) -> dict:
    return SILENT | {"lease": {"kind": kind, "address": "10.0.0.5", "seconds_ago": 1}}


# what the host sees, what was asked, the hop that is named ("" where none is), words that say what to do
FINDINGS = {
    "all is well": ({}, SSH, "", ""),
    "ping": ({}, PING, "", ""),
    "no NIC": ({"nic": "absent", "is_there": None, "answer": None}, SSH, "plugged", "start it"),
    "no emulator": ({"nic": "idle", "is_there": None, "answer": None}, SSH, "plugged", "start it"),
    "switched off": ({"nic": "down", "is_there": None, "answer": None}, SSH, "plugged", "switched off on the host"),
    "has sent nothing": (SILENT | {"lease": None, "sent_packets": 0, "dropped": {}}, SSH, "address", "not booted"),
    "has asked for nothing": (SILENT | {"lease": None, "dropped": {}}, SSH, "address", "DHCP client"),
    "another's address": (SILENT | SPOOFING, SSH, "address", "Set its NIC to DHCP, or to 10.0.0.5"),
    "announced itself": (SILENT | {"dropped": {"not_ip": 9}, "lease": None}, SSH, "address", "DHCP client on this NIC"),
    "takes no offer": (lease("offered"), SSH, "address", "does not take what it is offered"),
    "wants another address": (lease("refused"), SSH, "address", "renew its lease"),
    "had it": (SILENT, SSH, "address", "has it crashed"),
    "no sshd": ({"answer": "refused"}, SSH, "answer", "nothing listens on port 22: sshd is not running in it"),
    "no program": ({"answer": "refused"}, WEB, "answer", "nothing listens on port 80: the program"),
    "firewall": ({"answer": "silent"}, SSH, "answer", "a firewall in the guest drops it"),
    "firewall that says so": ({"answer": "prohibited"}, SSH, "answer", "a firewall in the guest refuses it"),
    "no ping": ({"answer": "silent"}, PING, "answer", "a firewall in the guest drops it"),
    "address taken outside": ({"has_rival": True}, SSH, "way_in", "Use another floating IP"),
    "udp": ({"answer": "silent"}, NAMES, "", ""),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_each_finding_is_told_in_words_with_what_to_do(name):
    told, wish, hop, words = FINDINGS[name]
    hops = closer.look(WAY, Seen.read(GOOD | told), TARGET, wish)
    found = first_blocked(hops)
    assert (found.name if found else "") == hop, hops
    assert words in (found.says if found else ""), found
    assert all(hop.fix_by for hop in hops if hop.verdict == "blocked")


SENDER_FINDINGS = {
    "it sends": ({}, "", "Nothing has come back."),
    "it is answered": ({"tried": "answered"}, "", "is answered"),
    "it does not try": ({"tried": "nothing"}, "", "try it now"),
    "not known": ({"tried": None}, "", ""),
    "no emulator": ({"nic": "idle", "is_there": None, "answer": None}, "sender", "start it"),
    "has not booted": (SILENT | {"lease": None, "sent_packets": 0, "dropped": {}}, "sender", "not booted"),
    "another's address": (SILENT | SPOOFING, "sender", "Set its NIC to DHCP"),
    "no ping": ({"answer": "silent"}, "", ""),
}


@pytest.mark.parametrize("name", SENDER_FINDINGS)
def test_the_sending_end_is_told_in_words_too(name):
    told, blocked_at, words = SENDER_FINDINGS[name]
    way = (ok("nic", "", ""), ok("egress", "", ""))
    other = SimpleNamespace(**{**vars(TARGET), "address": "10.0.0.9"})
    hops = closer.look_at_sender(way, Seen.read(GOOD | told), TARGET, other, SSH)
    found = first_blocked(hops)
    assert (found.name if found else "") == blocked_at, hops
    assert any(words in hop.says for hop in hops if hop.name == "sender"), hops
    assert (hops[0].seen, "refused" in hops[1].seen) == ("", True)
    silent = closer.look_at_sender(way, Silence("Its host did not answer."), TARGET, other, SSH)
    assert (silent[-1].name, silent[-1].verdict) == ("sender", "unknown")


def test_what_the_host_counts_is_beside_the_hops():
    hops = {hop.name: hop for hop in closer.look(WAY, Seen.read(GOOD), TARGET, SSH)}
    assert hops["nic"].seen == "Its guest has received 10 packets and sent 9."
    assert hops["ingress"].seen == "Its security groups have refused 3 packets to it so far."
    assert hops["address"].seen == "By DHCP it was given 10.0.0.5 61 seconds ago."
    assert hops["answer"].says == "TCP port 22 is open in the guest."


@pytest.mark.parametrize("code", ["host_unreachable", "busy", "not_offered", "refused", "gone", 7, None])
def test_a_host_that_does_not_look_leaves_the_guest_unknown(code, monkeypatch):
    monkeypatch.setattr("cloud.streams.handover.ask_facts", lambda *args: {"code": code, "because": "<b>!</b>"})
    seen = evidence.ask(TARGET, SSH)
    assert isinstance(seen, Silence)
    *_, last = closer.look(WAY, seen, TARGET, SSH)
    assert (last.name, last.verdict) == ("guest", "unknown")
    assert "<b>" not in last.says


NONSENSE = [None, [], "up", 7, {}, {"nic": []}, {"nic": "up" * 9000}, {**GOOD, "nic": None}]
NONSENSE += [{**GOOD, name: value} for name in GOOD if not name.endswith("_bytes") for value in ([1], "x", -1)]
NONSENSE += [{**GOOD, "watched_seconds": value} for value in (2**70, 1.5, float("nan"), float("inf"), True, "7")]
NONSENSE += [{**GOOD, "dropped": {"ingress_refused": value}} for value in ("3", None, [], -1, 10**40)]
NONSENSE += [
    {**GOOD, "lease": {**GOOD["lease"], name: value}} for name in GOOD["lease"] for value in (None, {}, [], "y" * 9999)
]


@pytest.mark.parametrize("told", NONSENSE, ids=range(len(NONSENSE)))
def test_what_makes_no_sense_is_no_answer(told, monkeypatch):
    monkeypatch.setattr("cloud.streams.handover.ask_facts", lambda *args: {"opened": 1, "seen": told})
    assert evidence.ask(TARGET, SSH) == Silence("Its host's answer makes no sense.")


def test_what_a_host_says_beside_is_passed_over():
    told = {**GOOD, "more": ["of it"] * 900, "dropped": {**GOOD["dropped"], "<script>": 9, "other": "x"}}
    assert Seen.read(told) == Seen.read(GOOD)


def test_both_ends_use_the_same_words():
    assert set(evidence.REASONS) == counting.REASONS.keys()
    assert set(evidence.NICS) == {examining.ABSENT, examining.IDLE, examining.DOWN, examining.UP}
    assert set(evidence.LEASES) == {leases.GIVEN, leases.OFFERED, leases.REFUSED}
    assert set(evidence.ANSWERS) == {questions.OPEN, questions.REFUSED, questions.PROHIBITED, questions.SILENT}
    assert set(evidence.TRIED) == {sending.NOTHING, sending.UNANSWERED, sending.ANSWERED}
