"""The rest of the embedded emulator's board, part by part, and under guests that write nonsense."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.agent.hypervisors.unicorn.board import sbi
from compute.agent.hypervisors.unicorn.board.memory import BASE, CHUNK, BadAddress, Ram
from compute.agent.hypervisors.unicorn.board.plic import CLAIM, ENABLE, THRESHOLD, Plic
from compute.agent.hypervisors.unicorn.board.uart import Uart
from compute.agent.hypervisors.unicorn.board.user_network import UserNetwork

SIZE = 1 << 20
bounded = settings(max_examples=300, deadline=None)
word32 = st.integers(0, 0xFFFF_FFFF)
word64 = st.one_of(st.integers(0, (1 << 64) - 1), st.integers(BASE - 64, BASE + SIZE + 64))


# The serial port


def test_the_serial_port_sends_and_receives():
    lines: list[bool] = []
    said: list[bytes] = []
    uart = Uart(lines.append, said.append)
    uart.write(1, 1, 3)
    assert lines[-1]
    assert uart.read(2, 1) & 0x0F == 2
    assert not lines[-1]
    uart.write(0, 1, ord("x"))
    assert said == [b"x"]
    assert uart.read(2, 1) & 0x0F == 2
    uart.feed(b"ab")
    assert uart.read(2, 1) & 0x0F == 4
    assert uart.read(5, 1) & 1
    assert [uart.read(0, 1), uart.read(0, 1)] == [ord("a"), ord("b")]
    assert not uart.read(5, 1) & 1
    assert not lines[-1]


@bounded
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 0xFFF), word64), max_size=60), st.binary(max_size=5000))
def test_no_register_brings_the_serial_port_down(accesses, typed):
    uart = Uart(lambda high: None, lambda content: None)
    for is_write, offset, value in accesses:
        uart.feed(typed)
        assert uart.room >= 0
        if is_write:
            uart.write(offset, 1, value)
        else:
            assert 0 <= uart.read(offset, 1) < 256


# Interrupts


def test_an_interrupt_is_claimed_by_priority_and_comes_again_while_its_line_is_high():
    raised: list[bool] = []
    plic = Plic(raised.append)
    for source, priority in ((1, 1), (2, 5), (3, 5)):
        plic.write(source * 4, 4, priority)
        plic.set_level(source, True)
    assert raised == []
    plic.write(ENABLE, 4, 0b1110)
    assert raised == [True]
    assert [plic.read(CLAIM, 4) for _ in range(4)] == [2, 3, 1, 0]
    assert raised[-1] is False
    plic.write(CLAIM, 4, 2)
    assert raised[-1] is True
    plic.set_level(2, False)
    assert raised[-1] is False
    plic.write(THRESHOLD, 4, 7)
    plic.write(CLAIM, 4, 3)
    assert plic.read(CLAIM, 4) == 0


def test_a_pulse_is_claimed_once():
    plic = Plic(lambda high: None)
    plic.write(4, 4, 1)
    plic.write(ENABLE, 4, 2)
    plic.pulse(1)
    assert [plic.read(CLAIM, 4), plic.read(CLAIM, 4)] == [1, 0]
    plic.write(CLAIM, 4, 1)
    assert plic.read(CLAIM, 4) == 0


@bounded
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 0x3FFFFF), word64), max_size=60))
def test_no_register_brings_the_interrupt_controller_down(accesses):
    plic = Plic(lambda high: None)
    known = (0x1000, 0x2000, 0x20_0000, 0x20_0004)
    for kind, offset, value in accesses:
        place = known[offset % 4] if offset % 3 else offset
        if kind == 0:
            plic.write(place, 4, value)
        elif kind == 1:
            plic.set_level(1 + value % 31, bool(value & 1))
        else:
            assert 0 <= plic.read(place, 4) < 1 << 32
    again = Plic(lambda high: None)
    again.restore(plic.save())
    assert again.save() == plic.save()


# Firmware


class Silent:
    """What the firmware may do, not done."""

    def set_timer(self, deadline: int) -> None: ...
    def interrupt_self(self) -> None: ...
    def flush_translations(self) -> None: ...
    def say(self, content: bytes) -> None: ...
    def switch_off(self, *, reboot: bool) -> None: ...

    def hear(self, limit: int) -> bytes:
        return b"typed"[:limit]


@bounded
@given(st.sampled_from([*sbi.EXTENSIONS, *sbi.LEGACY, 99, 1 << 63]), st.integers(0, 12), word64, word64, word64)
def test_no_call_brings_the_firmware_down(extension, function, a0, a1, a2):
    error, value = sbi.Firmware(Ram(SIZE), Silent()).call(extension, function, a0, a1, a2)
    assert 0 <= error <= sbi.WORD
    assert value is None or 0 <= value <= sbi.WORD


# Memory


@bounded
@given(word64, st.integers(0, 1 << 33))
def test_nothing_outside_memory_is_reached(address, size):
    ram = Ram(1 << 16)
    inside = address >= BASE and address + size <= BASE + (1 << 16)
    try:
        assert len(ram.read(address, size)) == size
        assert inside
    except BadAddress:
        assert not inside


# The network without anybody


@bounded
@given(st.binary(max_size=600), st.sampled_from([b"", b"\x08\x00\x45", b"\x08\x06", b"\x08\x00\x46"]))
def test_no_frame_brings_the_isolated_network_down(content, kind):
    UserNetwork("host").answer(content[:12].ljust(12, b"\0") + kind + content[12:])


@pytest.mark.parametrize("told", [True, False])
def test_memory_is_saved_whole_with_holes_where_nothing_is(tmp_path, monkeypatch, told):
    """`told`: whether the kernel says which pages were touched."""
    if not told:
        monkeypatch.setattr(Ram, "_touched", lambda self: b"")
    ram, content = Ram(8 << 20), bytearray(8 << 20)
    for place, words in ((3 << 20) - 5, b"across two chunks"), ((8 << 20) - 3, b"end"):
        ram.write(BASE + place, words)
        content[place : place + len(words)] = words
    ram.read(BASE + (5 << 20), 4096)
    assert ram.save(tmp_path / "first") == 3 * CHUNK
    assert (tmp_path / "first").read_bytes() == content
    assert (tmp_path / "first").stat().st_blocks * 512 < 1 << 20

    view = Ram(8 << 20, tmp_path / "first")
    view.write(BASE + (1 << 20), b"later")
    assert view.save(tmp_path / "second") == 4 * CHUNK, "what was not touched is kept, too"
    assert (tmp_path / "second").read_bytes() == bytes(view.map)
    for each in (ram, view):
        each.close()
