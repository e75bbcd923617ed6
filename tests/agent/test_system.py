"""What a host has for machines: not more than its container may use."""

import os

import pytest

from agent import system

ALL = len(os.sched_getaffinity(0))


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "CGROUPS", tmp_path)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "memory").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("files", "vcpus"),
    [
        ({}, ALL),
        ({"cpu.max": "max 100000\n"}, ALL),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "10000000 100000\n"}, ALL),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, ALL),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_processors_are_those_that_a_container_may_use(cgroups, files, vcpus):
    for name, content in files.items():
        (cgroups / name).write_text(content)
    assert system.vcpus() == vcpus


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_memory_is_what_a_container_may_use_less_a_reserve(cgroups, name):
    everything = system.memory_mib()
    (cgroups / name).write_text("max\n")
    assert system.memory_mib() == everything
    (cgroups / name).write_text(f"{1 << 30}\n")
    assert system.memory_mib() == 1024 - system.MIN_RESERVED_MIB
