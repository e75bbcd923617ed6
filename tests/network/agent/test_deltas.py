"""Changes are told, kept and applied as differences, and end where the whole spec would."""

import json
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Refused
from network.agent import deltas, kept
from network.agent.specs import digest
from tests.network.agent import lab

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "to", "members"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from("abcd"), inner), max_leaves=20
)


@given(before=values, after=values)
def test_a_difference_makes_the_one_of_the_other(before, after):
    different = deltas.between(before, after)
    made = before if different is None else deltas.applied(before, json.loads(json.dumps(different)))
    assert made == after


def spec_of(host, count=200):
    spec = lab.network(host, cidr="10.0.0.0/16", **{f"p{n}": f"10.0.0.{n + 10}" for n in range(count)})
    return spec, next(iter(spec["groups"].values()))


def test_a_rule_or_a_port_more_is_told_in_a_few_hundred_bytes():
    before, _ = spec_of(None)
    after = json.loads(json.dumps(before))
    group = next(iter(after["groups"].values()))
    group["rules"].append(lab.ingress("tcp", 80, 80))
    assert len(json.dumps(deltas.between(before, after))) < 500
    lab.add_port(after, "more", "10.0.9.9", groups=list(after["groups"]))
    del after["ports"][7]
    assert len(json.dumps(deltas.between(before, after))) < 1000


def has(host, spec):
    """Whether the process has applied this spec, by its hash."""
    found = {each["id"]: each["hash"] for each in host.client.inventory()["resources"]}
    return found.get(spec["id"]) == digest(spec)


def test_changes_hold_over_restarts_whatever_the_client_knows(make_host):
    host = make_host(0)
    spec, group = spec_of(host, 20)
    other = lab.NetworkProcess(host.paths)  # another worker, which knows of no state
    for number in range(12):
        group["rules"].append(lab.ingress("tcp", 1000 + number, 1000 + number))
        lab.add_port(spec, f"new{number}", f"10.0.1.{number + 1}", groups=list(spec["groups"]))
        if number == 8:
            del spec["ports"][:18]
        if number % 5 == 4:
            host.stop(signal.SIGKILL)
            host.start()
        (other if number == 7 else host.client).apply("network", spec["id"], 100 + number, spec)
        assert has(host, spec), number
    host.stop(signal.SIGKILL)
    host.start()
    assert has(host, spec)


def test_a_difference_that_does_not_fit_is_refused_and_changes_nothing(make_host):
    host = make_host(0)
    spec, _ = spec_of(host, 2)
    host.apply(spec)
    (state, _) = host.client._told["network", spec["id"]]
    of = {"do": "change", "type": "network", "id": spec["id"], "generation": 1 << 40}
    for wrong in ({"items": [[5, {"to": 1}]]}, {"members": {"ports": {"to": 5}}, "without": []}, {}, {"to": {}}):
        with pytest.raises(Refused):
            host.client._ask({**of, "since": state, "difference": wrong})
    assert host.client._ask({**of, "since": "another", "difference": {"to": {}}}) == {"unknown": True}
    assert has(host, spec)


def test_a_line_that_was_not_finished_is_left_out(tmp_path):
    file, files = tmp_path / "kept", kept.Files()
    files.keep(file, {"generation": 1, "spec": {"a": 1, "b": "x" * 200}}, None)
    files.keep(file, {"generation": 2, "spec": {}}, {"members": {"a": {"to": 2}}, "without": []})
    with file.open("a") as half:
        half.write('{"generation": 3, "differ')
    assert kept.read(file) == {"generation": 2, "spec": {"a": 2, "b": "x" * 200}}
    kept.Files().keep(file, {"generation": 4, "spec": {"c": 3}}, {"to": {"c": 3}})  # another process writes it all
    assert kept.read(file) == {"generation": 4, "spec": {"c": 3}}
