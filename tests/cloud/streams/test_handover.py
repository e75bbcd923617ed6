"""What web asks hosts through streams, while a host may say whatever it likes."""

import contextlib
import socket
import threading
from uuid import uuid4

import pytest

from cloud.streams import handover


@pytest.fixture
def streams(short_path, settings):
    """Stands in for streams: what it is told to say to the next who asks, and then nothing more."""
    path = settings.STREAMS_SOCKET = str(short_path / "s")
    said, kept = [], []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(path)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    _, descriptors, _, _ = socket.recv_fds(line, 8192, 1)
                    if not descriptors:
                        return
                    kept.append(asker := socket.socket(fileno=descriptors[0]))
                    asker.sendall(said.pop(0))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield said.append
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", path)
        thread.join()
    for asker in kept:
        asker.close()


def test_facts_are_taken_and_nothing_behind_them_is_waited_for(streams, monkeypatch):
    monkeypatch.setattr("cloud.streams.handover.SECONDS_TO_ANSWER", 60)  # waiting would be seen
    streams(b'{"seen": {"nic": "up"}}\n' + bytes(9000))
    assert handover.ask_facts(uuid4(), {"what": "probe"}) == {"seen": {"nic": "up"}}
    streams(b'{"code": "busy"}\n')
    assert handover.ask_facts(uuid4(), {"what": "probe"}) == {"code": "busy"}


def test_who_says_nothing_is_unreachable(streams, monkeypatch, settings):
    monkeypatch.setattr("cloud.streams.handover.SECONDS_TO_ANSWER", 0.01)
    streams(b"")
    assert handover.ask_facts(uuid4(), {"what": "probe"}) == {"code": "host_unreachable"}
    monkeypatch.setattr("cloud.streams.handover.SECONDS_TO_ANSWER", 60)
    monkeypatch.setattr("cloud.streams.handover.MAX_ANSWER", 1000)
    streams(b'{"offset": 0}\n' + bytes(2000))  # goes on for ever
    assert handover.ask_host(uuid4(), {"what": "log"})[0] == {"offset": 0}
    settings.STREAMS_SOCKET = ""
    assert handover.ask_facts(uuid4(), {"what": "probe"}) == {"code": "host_unreachable"}
    assert handover.ask_host(uuid4(), {"what": "log"}) == ({"code": "host_unreachable"}, b"")
