"""Virtio devices of the embedded emulator one by one, and under guests that write nonsense."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.agent.hypervisors.unicorn.board.block import Block
from compute.agent.hypervisors.unicorn.board.buttons import KEY_POWER, Buttons
from compute.agent.hypervisors.unicorn.board.memory import BASE, Ram
from compute.agent.hypervisors.unicorn.board.net import HEADER_SIZE, Net
from compute.agent.hypervisors.unicorn.board.rng import Rng
from compute.agent.hypervisors.unicorn.board.virtio import NEEDS_RESET, Bus, Device

SIZE = 1 << 20
TABLE, AVAILABLE, USED, BUFFERS = BASE + 0x1000, BASE + 0x2000, BASE + 0x3000, BASE + 0x8000
bounded = settings(max_examples=300, deadline=None)
word32 = st.integers(0, 0xFFFF_FFFF)
word64 = st.one_of(st.integers(0, (1 << 64) - 1), st.integers(BASE - 64, BASE + SIZE + 64))


class MemoryDisk:
    """A disk of a test."""

    size, read_only = 1 << 16, False

    def __init__(self) -> None:
        self.content = bytearray(self.size)
        self.full = False
        self.flushes = 0

    def read(self, offset: int, into: memoryview) -> None:
        into[:] = self.content[offset : offset + len(into)]

    def write(self, offset: int, content: memoryview) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.content[offset : offset + len(content)] = content

    def flush(self) -> None:
        self.flushes += 1

    def close(self) -> None:
        pass


class Driver:
    """A driver of one device, which does as the specification says."""

    def __init__(self, make: Callable[..., Device], *arguments: Any) -> None:
        self.ram = Ram(SIZE)
        self.line = False
        self.device = make(Bus(self.ram, lambda address, size: None), self._interrupt, *arguments)
        self.write(0x70, 1)
        self.write(0x70, 3)
        self.write(0x24, 1)
        self.write(0x20, 1)  # VIRTIO_F_VERSION_1
        self.write(0x70, 11)
        assert self.device.read(0x70, 4) == 11
        for number in range(self.device.QUEUES):
            self.write(0x30, number)
            self.write(0x38, 8)
            for offset, address in ((0x80, TABLE), (0x90, AVAILABLE), (0xA0, USED)):
                self.write(offset, address + number * 0x100 & 0xFFFF_FFFF)
                self.write(offset + 4, address >> 32)
            self.write(0x44, 1)
        self.write(0x70, 15)

    def _interrupt(self, high: bool) -> None:
        self.line = high

    def write(self, offset: int, value: int) -> None:
        self.device.write(offset, 4, value)

    def offer(self, *pieces: tuple[bytes | int, int], queue: int = 0, head: int = 0) -> list[int]:
        """Make a chain of pieces available, bytes to read or a size to write, each (…, flags); their addresses."""
        addresses, place = [], BUFFERS
        for number, (content, _) in enumerate(pieces):
            size = content if isinstance(content, int) else len(content)
            if not isinstance(content, int):
                self.ram.write(place, content)
            flags = (2 if isinstance(content, int) else 0) | (1 if number + 1 < len(pieces) else 0)
            entry = struct.pack("<QIHH", place, size, flags, head + number + 1)
            self.ram.write(TABLE + queue * 0x100 + 16 * (head + number), entry)
            addresses.append(place)
            place += size + 64
        ring = AVAILABLE + queue * 0x100
        index = self.ram.read_u16(ring + 2)
        self.ram.write(ring + 4 + 2 * (index % 8), struct.pack("<H", head))
        self.ram.write(ring + 2, struct.pack("<H", index + 1 & 0xFFFF))
        return addresses

    def used(self, queue: int = 0) -> int:
        return self.ram.read_u16(USED + queue * 0x100 + 2)

    def request(self, kind: int, sector: int, *pieces: bytes | int) -> tuple[int, list[int]]:
        """One request to a block device; its status and where the pieces are."""
        parts = [(struct.pack("<IIQ", kind, 0, sector), 0), *((piece, 0) for piece in pieces), (1, 0)]
        addresses = self.offer(*parts)
        self.write(0x50, 0)
        return self.ram.read(addresses[-1], 1)[0], addresses[1:-1]


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


def block_driver(disk: MemoryDisk, stalls: list[bool] | None = None) -> Driver:
    return Driver(Block, disk, "serial-1", lambda: (stalls if stalls is not None else []).append(True))


def test_a_disk_keeps_what_is_written_and_counts_its_bounds(disk):
    driver = block_driver(disk)
    assert driver.request(1, 3, b"x" * 512, b"y" * 1024)[0] == 0
    assert disk.content[1536:2048] == b"x" * 512
    status, (address,) = driver.request(0, 4, 512)
    assert (status, driver.ram.read(address, 512)) == (0, b"y" * 512)
    assert driver.request(4, 0)[0] == 0
    assert disk.flushes == 1
    last = disk.size // 512
    assert driver.request(0, last, 512)[0] == 1
    assert driver.request(1, (1 << 64) // 512 - 1, b"x" * 512)[0] == 1
    assert driver.request(0, 0, 100)[0] == 1
    assert driver.request(77, 0)[0] == 2
    status, (address,) = driver.request(8, 0, 20)
    assert (status, driver.ram.read(address, 20)) == (0, b"serial-1".ljust(20, b"\0"))
    assert driver.line
    driver.write(0x64, 1)
    assert not driver.line


def test_a_read_only_disk_is_not_written_to(disk):
    disk.read_only = True
    driver = block_driver(disk)
    assert driver.device.read(0x10, 4) & 1 << 5
    assert driver.request(1, 0, b"x" * 512)[0] == 1


def test_a_full_host_keeps_the_request_until_there_is_room(disk):
    stalls: list[bool] = []
    driver = block_driver(disk, stalls)
    disk.full = True
    driver.request(1, 0, b"x" * 512)
    assert (stalls, driver.used()) == ([True], 0)
    disk.full = False
    driver.device.go_on()
    assert (driver.used(), bytes(disk.content[:512])) == (1, b"x" * 512)


@pytest.mark.parametrize("size", [None, 1 << 16, 1 << 17])
def test_a_driver_that_goes_on_is_told_of_a_size_that_it_does_not_know(disk, size):
    """None: saved by an emulator that did not write it down."""
    driver = block_driver(disk)
    saved = driver.device.save()
    assert saved.pop("size") == 1 << 16
    driver.device.restore(saved if size is None else saved | {"size": size})
    driver.device.announce_size()
    assert driver.line == (size != 1 << 16)


def test_an_indirect_table_is_followed(disk):
    driver = block_driver(disk)
    disk.content[:512] = b"z" * 512
    table = BASE + 0x20000
    driver.ram.write(BUFFERS, struct.pack("<IIQ", 0, 0, 0))
    entries = ((BUFFERS, 16, 1, 1), (BUFFERS + 0x100, 512, 3, 2), (BUFFERS + 0x400, 1, 2, 0))
    driver.ram.write(table, b"".join(struct.pack("<QIHH", *entry) for entry in entries))
    driver.ram.write(TABLE, struct.pack("<QIHH", table, 48, 4, 0))
    driver.ram.write(AVAILABLE, struct.pack("<HHH", 0, 1, 0))
    driver.write(0x50, 0)
    assert driver.ram.read(BUFFERS + 0x100, 512) == b"z" * 512
    assert driver.used() == 1


@pytest.mark.parametrize(
    "entry",
    [
        (BASE + SIZE, 16, 0, 0),  # outside memory
        (0, 16, 0, 0),
        ((1 << 64) - 8, 16, 0, 0),
        (BUFFERS, 16, 1, 0),  # a ring of itself
        (BUFFERS, 16, 1, 9),  # on to an entry that is not there
        (BUFFERS, 17, 4, 0),  # an indirect table of no whole entries
        (BUFFERS, 0xFFFF_FFFF, 0, 0),
    ],
)
def test_a_driver_that_breaks_the_rules_has_to_reset_the_device(disk, entry):
    driver = block_driver(disk)
    driver.ram.write(TABLE, struct.pack("<QIHH", *entry))
    driver.ram.write(AVAILABLE, struct.pack("<HHH", 0, 1, 0))
    driver.write(0x50, 0)
    assert driver.device.read(0x70, 4) & NEEDS_RESET
    driver.write(0x70, 0)
    assert driver.device.read(0x70, 4) == 0


def test_frames_go_out_and_come_in():
    sent: list[bytes] = []
    driver = Driver(Net, bytes(6), sent.append)
    driver.offer((bytes(HEADER_SIZE) + b"frame of a guest", 0), queue=1)
    driver.write(0x50, 1)
    assert sent == [b"frame of a guest"]
    (address,) = driver.offer((2048, 0), queue=0)
    driver.device.deliver(b"frame for a guest")
    assert driver.ram.read(address + HEADER_SIZE, 17) == b"frame for a guest"
    driver.device.deliver(b"second")  # waits for a buffer
    assert driver.used(0) == 1
    driver.offer((2048, 0), queue=0)
    driver.write(0x50, 0)
    assert driver.used(0) == 2


def test_the_power_button_is_a_key_that_goes_down_and_up():
    driver = Driver(Buttons)
    driver.device.write(0x100, 1, 0x11)
    driver.device.write(0x101, 1, 1)
    size = driver.device.read(0x102, 1)
    keys = bytes(driver.device.read(0x108 + place, 1) for place in range(size))
    assert int.from_bytes(keys, "little") == 1 << 116 | 1 << 143
    addresses = [driver.offer((8, 0), head=number)[0] for number in range(4)]
    driver.ram.write(TABLE, b"".join(struct.pack("<QIHH", BUFFERS + 64 * n, 8, 2, 0) for n in range(4)))
    driver.device.press(KEY_POWER)
    events = [struct.unpack("<HHI", driver.ram.read(BUFFERS + 64 * number, 8)) for number in range(4)]
    assert events == [(1, 116, 1), (0, 0, 0), (1, 116, 0), (0, 0, 0)]
    assert len(addresses) == 4


def device_of_every_kind() -> list[Driver]:
    stall: list[bool] = []
    return [
        block_driver(MemoryDisk(), stall),
        Driver(Net, bytes(6), lambda frame: None),
        Driver(Rng),
        Driver(Buttons),
    ]


@bounded
@given(
    st.integers(0, 3),
    st.lists(st.tuples(st.integers(0, 0x1FF), word32), max_size=20),
    st.binary(max_size=256),
    st.binary(max_size=64),
)
def test_no_register_and_no_ring_brings_a_device_down(kind, registers, table, ring):
    driver = device_of_every_kind()[kind]
    driver.ram.write(TABLE, table)
    driver.ram.write(AVAILABLE, ring)
    for offset, value in registers:
        driver.device.write(offset, 4, value)
        assert 0 <= driver.device.read(offset, 4) < 1 << 32
        driver.device.notify(value & 3)
    for number in range(2):
        driver.device.notify(number)


@bounded
@given(
    st.integers(0, 2), st.tuples(*[st.integers(0, 96)] * 3), st.binary(min_size=256, max_size=256), st.integers(0, 3)
)
def test_rings_that_overlap_end(kind, places, content, status):
    driver = device_of_every_kind()[kind]
    for queue, (place, area) in enumerate(zip(places, ("descriptors", "available", "used"), strict=True)):
        for each in driver.device.queues:
            setattr(each, area, TABLE + place)
        driver.ram.write(TABLE, content)
        driver.write(0x50, queue & 1)
    for _ in range(10):
        driver.write(0x50, status & 1)


descriptor = st.tuples(word64, word32, st.integers(0, 7), st.integers(0, 9))


@bounded
@given(st.integers(0, 3), st.lists(descriptor, min_size=1, max_size=8), st.lists(st.integers(0, 9), max_size=8))
def test_no_chain_of_descriptors_brings_a_device_down(kind, entries, heads):
    driver = device_of_every_kind()[kind]
    before = bytes(driver.ram.map[:0x1000])
    for queue in range(driver.device.QUEUES):
        for number, entry in enumerate(entries):
            driver.ram.write(TABLE + queue * 0x100 + 16 * number, struct.pack("<QIHH", *entry))
        driver.ram.write(AVAILABLE + queue * 0x100, struct.pack("<HH", 0, len(heads)))
        driver.ram.write(AVAILABLE + queue * 0x100 + 4, struct.pack(f"<{len(heads)}H", *heads))
        driver.write(0x50, queue)
    written = any(flags & 2 and BASE - 16 <= address < BASE + 0x1000 for address, _, flags, _ in entries)
    assert written or bytes(driver.ram.map[:0x1000]) == before or any(flags & 4 for _, _, flags, _ in entries)
