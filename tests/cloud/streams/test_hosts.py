"""How long who asks a host waits: one host's silence costs those of others nothing."""

import asyncio

from cloud.streams import hosts
from cloud.streams.hosts import MAX_WAITING, MAX_WAITING_FOR_ABSENT, Hosts, Unreachable

WISH = {"kind": "serial"}


class SilentLine:
    """Of a host that is connected and never answers."""

    async def open(self, wish):
        await asyncio.Event().wait()


class GoodLine:
    async def open(self, wish):
        return "a channel"


async def all_waiting(lines: Hosts, host: str, most: int) -> list[asyncio.Task]:
    waiting = [asyncio.create_task(lines.open(host, WISH)) for _ in range(most)]
    while lines._waiting[host] < most:
        await asyncio.sleep(0)
    return waiting


def test_only_so_many_wait_for_one_host_and_nobody_for_another_ones(monkeypatch):
    monkeypatch.setattr(hosts, "SECONDS_TO_ANSWER", 30)

    async def scene() -> None:
        lines = Hosts()
        lines._lines |= {"silent": SilentLine(), "good": GoodLine()}
        waiting = await all_waiting(lines, "silent", MAX_WAITING)
        waiting += await all_waiting(lines, "absent", MAX_WAITING_FOR_ABSENT)
        for host in ("silent", "absent"):
            try:
                async with asyncio.timeout(5):
                    await lines.open(host, WISH)
            except Unreachable:
                continue
            raise AssertionError(f"one more waits for {host}")
        async with asyncio.timeout(5):
            assert await lines.open("good", WISH) == "a channel"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not lines._waiting, "those who have gone are not counted"

    asyncio.run(scene())
