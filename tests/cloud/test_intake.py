"""The framing of a body that goes into a file: the same whatever pieces it comes in, and never trusted."""

import pytest

from cloud.intake import Busy, Chunked, Intake, Plain, Receiver
from cloud.problems import Conflict, Invalid, TooLarge

CHUNKS = b"3\r\nabc\r\n10;name=value\r\n0123456789abcdef\r\n0\r\nTrailer: x\r\n\r\n"
MALFORMED = {
    "a size that is none": b"zz\r\n",
    "a line without CR": b"3\nabc\n",
    "more than it says": b"1\r\nabc\r\n",
    "a line without end": b"1" * 9000,
}


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_chunks_in_any_pieces(size):
    body, got = Chunked(), bytearray()
    for at in range(0, len(CHUNKS), size):
        assert not body.is_complete
        body.feed(CHUNKS[at : at + size], got.extend)
    assert body.is_complete
    assert got == b"abc0123456789abcdef"


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_malformed_chunks(sent):
    with pytest.raises(Invalid):
        Chunked().feed(sent, lambda piece: None)


def test_nothing_behind_a_body_gets_into_it(tmp_path):
    receiver = Receiver(Intake(tmp_path / "file", limit=3, owner="me", hashes=("sha256",)), Plain(3))
    receiver.feed(b"abcGET / HTTP/1.1")
    assert receiver.finish().size == 3
    receiver.close()
    assert (tmp_path / "file").read_bytes() == b"abc"


def test_one_writer_at_a_time_and_only_at_the_end(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    first = Receiver(Intake(tmp_path / "file", limit=9, owner="me", offset=3), Plain(2))
    with pytest.raises(Busy):
        Receiver(Intake(tmp_path / "file", limit=9, owner="me", offset=3), Plain(2))
    first.feed(b"d")
    first.abort()  # without keeping its part
    assert (tmp_path / "file").read_bytes() == b"abc"
    with pytest.raises(Conflict, match="3 bytes are here"):
        Receiver(Intake(tmp_path / "file", limit=9, owner="me", offset=2), Plain(2))


def test_it_is_counted_while_it_comes(tmp_path):
    receiver = Receiver(Intake(tmp_path / "file", limit=4, owner="me"), Chunked())
    receiver.feed(b"3\r\nabc\r\n")
    with pytest.raises(TooLarge):
        receiver.feed(b"3\r\nabc\r\n")
    receiver.abort()
    assert (tmp_path / "file").read_bytes() == b""
