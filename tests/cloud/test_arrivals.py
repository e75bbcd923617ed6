"""Where a request ends: found however its bytes come, and never waited for when it is malformed or too much."""

import pytest

from cloud.arrivals import MAX_CHUNK_LINE, MAX_HEAD_BYTES, Arrival, Refused

MAX_BODY = 1000
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n"


def post(length: object, body: bytes = b"") -> bytes:
    return f"POST / HTTP/1.1\r\nHost: x\r\ncontent-LENGTH:  {length} \r\n\r\n".encode() + body


WHOLE = {
    "no body": GET,
    "an empty body": post(0),
    "a body": post(5, b"12345"),
    "a body that looks like a head": post(8, b"\r\n\r\n\r\n\r\n"),
    "chunks": CHUNKED + b"3\r\nabc\r\n10;name=value\r\n0123456789abcdef\r\n0\r\n\r\n",
    "chunks with trailers": CHUNKED + b"1\r\na\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n",
    "no chunks": CHUNKED + b"0\r\n\r\n",
}
SUBMITTED_AT_ONCE = {
    "more than may be": post(MAX_BODY + 1),
    "a length that is no number": post("x"),
    "a negative length": post(-1),
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n",
    "a chunk size that is none": CHUNKED + b"zz\r\n",
    "a chunk size without end": CHUNKED + b"1" * (MAX_CHUNK_LINE + 2),
    "a chunk that does not end where it says": CHUNKED + b"1\r\nabc",
    "chunks of more than may be": CHUNKED + b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\na",
    "a chunk of more than may be": CHUNKED + b"ffffff\r\n" + b"x" * 1001,
    "trailers without end": CHUNKED + b"0\r\n" + b"x" * (MAX_HEAD_BYTES + 1),
}


@pytest.mark.parametrize("request_bytes", WHOLE.values(), ids=WHOLE)
def test_the_end_is_found_byte_by_byte_and_at_once(request_bytes):
    arrival = Arrival(MAX_BODY)
    for at in range(len(request_bytes)):
        assert not arrival.complete, at
        arrival.feed(request_bytes[at : at + 1])
    assert arrival.complete
    assert arrival.data == request_bytes
    assert not arrival.is_cut
    at_once = Arrival(MAX_BODY)
    at_once.feed(request_bytes + GET)  # the next one waits its turn
    assert at_once.complete


@pytest.mark.parametrize("request_bytes", SUBMITTED_AT_ONCE.values(), ids=SUBMITTED_AT_ONCE)
def test_what_is_refused_anyway_is_not_waited_for(request_bytes):
    arrival = Arrival(MAX_BODY)
    arrival.feed(request_bytes)
    assert arrival.complete
    assert arrival.is_cut


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES, 431),
        (b"x" * (MAX_HEAD_BYTES + 1), 431),
        (CHUNKED + (b"1;" + b"x" * 8000 + b"\r\na\r\n") * 10, 413),
    ],
)
def test_more_than_a_request_may_have_is_given_up(request_bytes, status):
    arrival = Arrival(MAX_BODY)
    with pytest.raises(Refused) as refused:
        arrival.feed(request_bytes)
    assert refused.value.status == status


def test_a_client_that_waits_to_be_asked_is_known_by_its_head():
    arrival = Arrival(MAX_BODY)
    arrival.feed(b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n")
    assert arrival.wants_continue
    assert not arrival.complete


@pytest.mark.parametrize("name", [b"Content-Length", b"Transfer-Encoding", b"Expect"])
def test_no_head_takes_long_to_look_at(name):
    """In the loop that serves everybody: quadratic time would be seconds of it, cubic time would be days."""
    for end in (b"\nx", b"x", b""):
        arrival = Arrival(MAX_BODY)
        arrival.feed(b"POST / HTTP/1.1\r\n" + name + b":" + b" \t" * 15_000 + end + b"\r\n\r\n")
        assert arrival._head is not None


FOR_A_FILE = ["/a/file", "/a/fil%65", "/a%2Ffile", "/a/fi\tle", "/a/file?b=/c", "/a/file#b", "http://x/file", "//file"]
FOR_NONE = ["/a/file/", "/a/files/", "/a/profile", "/a?b=/file", "/a#/file", "/a/file%0A", "http://[/file", "/files/x"]


@pytest.mark.parametrize(("method", "is_for_a_file"), [("PUT", True), ("PATCH", True), ("POST", False)])
@pytest.mark.parametrize("target", ["/a/files/7", "/a/files/%37", *FOR_A_FILE, *FOR_NONE])
def test_a_body_is_for_a_file_however_its_path_is_written(method, is_for_a_file, target):
    """Otherwise a thread would read it, from a client as slow as it likes."""
    arrival = Arrival(MAX_BODY)
    arrival.feed(f"{method} {target} HTTP/1.1\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n".encode())
    assert arrival.is_streamed == (is_for_a_file and target not in FOR_NONE)
    assert arrival.is_cut != arrival.is_streamed
