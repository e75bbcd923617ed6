"""Translated code: given back by a guest that has become idle, and translated again when it is needed."""

import struct

import pytest

from compute.agent.hypervisors.unicorn.board import engine, translations
from compute.agent.hypervisors.unicorn.board.library import registers
from compute.agent.hypervisors.unicorn.board.memory import BASE, Ram

PROGRAM = (0x0050_0293, 0x0012_8293, 0x1050_0073)  # li t0, 5; addi t0, t0, 1; wfi


@pytest.fixture
def clock(monkeypatch):
    """Seconds that have gone by, and that were used of them, as a test has it."""
    now = {"wall": 100.0, "used": 1.0}
    monkeypatch.setattr(translations.time, "monotonic", lambda: now["wall"])
    monkeypatch.setattr(translations.time, "process_time", lambda: now["used"])

    def go_on(wall, used):
        now["wall"] += wall
        now["used"] += used

    return go_on


def test_a_guest_becomes_idle_once_after_it_was_busy(clock):
    thrift = translations.Thrift()
    clock(2, 0)
    assert not thrift.has_become_idle(), "too soon to tell"
    clock(9, 5)
    assert not thrift.has_become_idle()
    clock(11, 0.1)
    assert thrift.has_become_idle()
    clock(11, 0.1)
    assert not thrift.has_become_idle(), "it is idle still"
    clock(11, 3)
    assert not thrift.has_become_idle()
    clock(11, 0.1)
    assert thrift.has_become_idle()


def test_what_was_dropped_is_translated_again(monkeypatch):
    given_back = []
    give_back = translations.give_back
    monkeypatch.setattr(translations, "give_back", lambda: given_back.append(give_back()))
    ram = Ram(1 << 20)
    ram.write(BASE, struct.pack("<3I", *PROGRAM))
    one = engine.Engine(ram)
    try:
        for _ in range(3):
            one.set_register(registers.UC_RISCV_REG_PRIV, engine.MACHINE)
            one.set_register(registers.UC_RISCV_REG_T0, 0)
            one.set_register(registers.UC_RISCV_REG_PC, BASE)
            assert one.run() == 0
            one.save()
            assert (one.words[5], one.words[engine.PC]) == (6, BASE + 12)
            one.drop_translations()
        assert min(given_back) >= translations.MIN_BLOCK
    finally:
        one.close()
        ram.close()
