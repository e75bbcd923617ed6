"""Two ends of a line over a real websocket: channels open, flow as fast as they are read, and end."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve as serve_websockets

from agent.channels import MAX_CHANNELS, MAX_MESSAGE, WINDOW, Closed, Line, NotOpened

BLOCK = b"x" * 4096


@asynccontextmanager
async def line_to(serve):
    """The control plane's end of a line; `serve` answers at the host's end."""
    arrived = asyncio.get_running_loop().create_future()

    async def accept(connection):
        line = Line(connection)
        arrived.set_result(line)
        await line.run()

    async with serve_websockets(accept, "127.0.0.1", 0, max_size=MAX_MESSAGE, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", compression=None, proxy=None, max_size=MAX_MESSAGE) as client:
            host = asyncio.ensure_future(Line(client, serve).run())
            yield await arrived
            await client.close()
            await host


def run(serve, act):
    async def both():
        async with asyncio.timeout(20), line_to(serve) as line:
            await act(line)

    asyncio.run(both())


async def echo(channel, wish):
    await channel.opened(hello=wish["what"])
    while content := await channel.read():
        await channel.write(content)


def test_bytes_go_both_ways_whatever_their_number():
    async def act(line):
        channel = await line.open({"what": "echo"})
        assert channel.facts["hello"] == "echo"
        sent = bytes(range(256)) * 2048  # more than any window
        writing = asyncio.ensure_future(channel.write(sent))
        got = b""
        while len(got) < len(sent):
            got += await channel.read()
        await writing
        assert got == sent
        await channel.close()
        assert await channel.read() == b""

    run(echo, act)


def test_who_does_not_read_stops_its_sender_and_nobody_else():
    written = {"deaf": 0, "quick": 0}

    async def pour(channel, wish):
        await channel.opened()
        while True:
            await channel.write(BLOCK)
            written[wish["what"]] += len(BLOCK)

    async def act(line):
        await line.open({"what": "deaf"})
        quick = await line.open({"what": "quick"})
        got = 0
        while got < 20 * WINDOW:
            got += len(await quick.read())
        assert written["deaf"] == WINDOW

    run(pour, act)


def test_a_refusal_has_a_code_and_words():
    async def refuse(channel, wish):
        raise NotOpened("not_offered", "there is no such thing")

    async def act(line):
        with pytest.raises(NotOpened) as refusal:
            await line.open({"what": "x"})
        assert (refusal.value.code, str(refusal.value)) == ("not_offered", "there is no such thing")

    run(refuse, act)


def test_a_server_that_fails_ends_its_channel_and_the_line_goes_on():
    async def fail(channel, wish):
        await channel.opened()
        if wish["what"] == "bad":
            raise RuntimeError("broken")
        await channel.write(b"good")

    async def act(line):
        bad = await line.open({"what": "bad"})
        assert await bad.read() == b""
        assert bad.because == "the host failed"
        good = await line.open({"what": "good"})
        assert await good.read() == b"good"

    run(fail, act)


def test_a_host_that_sends_more_than_it_may_loses_that_channel():
    async def flood(channel, wish):
        await channel.opened()
        for _ in range(WINDOW // len(BLOCK) + 1):
            await channel._line.send(channel.number, BLOCK)
        await channel.read()

    async def act(line):
        channel = await line.open({"what": "x"})
        while channel.is_open:
            await asyncio.sleep(0.01)
        assert "more than it was allowed" in channel.because

    run(flood, act)


def test_a_line_that_is_cut_ends_its_channels():
    async def act(line):
        channel = await line.open({"what": "echo"})
        await line.close()
        assert await channel.read() == b""
        with pytest.raises(Closed):
            await channel.write(b"x")
        with pytest.raises(NotOpened):
            await line.open({"what": "echo"})

    run(echo, act)


def test_a_line_has_a_bounded_number_of_channels_and_forgets_closed_ones():
    async def act(line):
        channels = [await line.open({"what": "echo"}) for _ in range(MAX_CHANNELS)]
        with pytest.raises(NotOpened):
            await line.open({"what": "echo"})
        await channels[0].close()
        await line.open({"what": "echo"})

    run(echo, act)


@pytest.mark.parametrize("message", ["no json", "[]", '{"open": "x"}', '{"nothing": 1}'])
def test_a_line_that_talks_nonsense_is_cut(message):
    async def act(line):
        await line._connection.send(message)
        await asyncio.wait_for(line._connection.wait_closed(), 10)

    run(echo, act)


def test_a_channel_that_is_not_known_is_ignored():
    async def act(line):
        await line.send(77, b"who?")
        await line.say({"credit": 77, "bytes": 5})
        channel = await line.open({"what": "echo"})
        await channel.write(b"still here")
        assert await channel.read() == b"still here"

    run(echo, act)
