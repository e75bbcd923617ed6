"""The node service's consoles at real emulators."""

import asyncio

import pytest

from agent.channels import NotOpened
from compute.agent.consoles import MIN_KEPT_BYTES, SCROLL_BACK, Consoles
from tests.agent.test_channels import line_to
from tests.compute.agent.unicorn import payload
from tests.compute.agent.unicorn.test_hypervisor import riscv_spec
from tests.compute.agent.virtual import GREETING, QemuNode, put_image_file
from tests.hosts import make_spec


@pytest.fixture
def node(control_plane, open_home, monkeypatch):
    monkeypatch.setenv("PILEUS_UNICORN", "1")
    node = QemuNode(control_plane.url, open_home)
    yield node
    for entry in node.ledger.entries():
        control_plane.order("ensure_gone", {"id": entry.id}, entry.generation + 1)
    node.look_once()


@pytest.fixture
def start(node, control_plane, tmp_path):
    """Run a guest under the embedded emulator."""

    def run(kernel: bytes):
        spec = riscv_spec(files=[put_image_file(control_plane, tmp_path, "kernel", kernel)])
        control_plane.order("ensure_running", spec, 1)
        node.look_once()
        assert control_plane.last(spec["id"])["seen"] == "running", str(control_plane.last(spec["id"])["facts"])
        return spec

    return run


def at(node, act):
    """Act with the line to a node service of this host."""

    async def both():
        async with asyncio.timeout(60), line_to(Consoles(node.paths).serve) as line:
            await act(line)

    asyncio.run(both())


def wish(spec, what="serial", generation=1):
    return {"what": what, "machine": spec["id"], "generation": generation}


async def read(channel, until: bytes) -> bytes:
    got = b""
    while until not in got:
        content = await channel.read()
        assert content, (got, channel.because)
        got += content
    return got


def test_the_embedded_emulator_shows_what_was_said_and_hears_what_is_typed(node, start):
    spec = start(payload.echoing())

    async def act(line):
        first = await line.open(wish(spec))
        await first.write(b"hello")
        await read(first, b"hello")
        second = await line.open(wish(spec))
        assert second.facts["before"] == 5
        await second.write(b" again")
        assert await read(second, b"again") == b"hello again"
        await read(first, b" again")
        await first.close()
        await second.close()
        third = await line.open(wish(spec))
        assert await read(third, b"again") == b"hello again"

    at(node, act)


def test_a_guest_that_shouts_is_not_held_up_by_who_does_not_read(node, start):
    spec = start(payload.shouting())
    log = node.home(spec["id"]).console_log

    async def act(line):
        channel = await line.open(wish(spec))
        await channel.read()
        before = log.stat().st_size
        await asyncio.sleep(1)
        assert log.stat().st_size - before > 4 * SCROLL_BACK
        while log.stat().st_size - before < MIN_KEPT_BYTES * 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        got = 0
        while got < MIN_KEPT_BYTES:
            content = await channel.read()
            assert set(content) == {ord("!")}
            got += len(content)

    at(node, act)


def test_a_console_ends_with_its_emulator(node, start, control_plane):
    spec = start(payload.echoing())

    async def act(line):
        channel = await line.open(wish(spec))
        control_plane.order("ensure_stopped", {**spec, "stop": {"force": True}}, 2)
        await asyncio.to_thread(node.look_once)
        assert await channel.read() == b""
        assert channel.because == "the machine has ended"
        with pytest.raises(NotOpened) as refusal:
            await line.open(wish(spec, generation=2))
        assert refusal.value.code == "not_running"

    at(node, act)


def test_what_is_not_here_not_offered_or_outdated_is_refused(node, start):
    spec = start(payload.echoing())

    async def act(line):
        for wrong, code in (
            (wish(spec, "vnc"), "not_offered"),
            (wish(spec, "../../etc/passwd"), "not_offered"),
            (wish(spec, generation=0), "outdated"),
            (wish(make_spec()), "not_here"),
            (wish({"id": "../../etc"}), "not_here"),
            ({"what": "serial"}, "not_here"),
        ):
            with pytest.raises(NotOpened) as refusal:
                await line.open(wrong)
            assert refusal.value.code == code, wrong

    at(node, act)


def test_the_whole_log_is_sent(node, start):
    spec = start(payload.greeting())

    async def act(line):
        serial = await line.open(wish(spec))
        await read(serial, payload.GREETING)
        log = await line.open(wish(spec, "log"))
        assert await read(log, payload.GREETING) == payload.GREETING
        assert await log.read() == b""

    at(node, act)


@pytest.mark.vm
def test_qemu_has_both_consoles(node, control_plane, kernel_spec):
    control_plane.order("ensure_running", kernel_spec, 1)
    node.look_once()

    async def act(line):
        serial = await line.open(wish(kernel_spec))
        await read(serial, GREETING)
        screen = await line.open(wish(kernel_spec, "vnc"))
        await read(screen, b"RFB 003.008\n")
        await screen.write(b"RFB 003.008\n")
        assert (await screen.read())[:2] == b"\x01\x01"  # one way to authenticate: none

    at(node, act)
