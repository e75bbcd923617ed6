"""Downloads from addresses that tenants give: hostile servers, forbidden addresses, names that change their minds."""

import hashlib
import ipaddress
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from storage.agent import downloader
from storage.agent.downloader import Failed, Rules, Unfit, download, follow, parse

CONTENT = bytes(range(256)) * 4096
LOCAL = ["127.0.0.1"]


class Server:
    """A web server that does what `answer` says with each request."""

    def __init__(self):
        self.asked = []
        self.answer = self.good
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):  # noqa: N802
                server.asked.append((self.path, self.headers))
                server.answer(self)
                self.close_connection = True

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def good(self, handler, content=CONTENT, length=None, **headers):
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    def status(self, code, **headers):
        def answer(handler):
            handler.send_response(code)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        return answer


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def fetch(server, tmp_path):
    target = tmp_path / "file"

    def start(path="/disk.qcow2", **wish):
        target.unlink(missing_ok=True)
        wish = {"url": server.url + path, "max_bytes": 1 << 30, "max_seconds": 60, "allow": LOCAL, **wish}
        return download(os.fspath(target), wish)

    start.target = target
    return start


def test_a_file_is_downloaded_with_its_sum(fetch, server, capsys):
    assert fetch() == {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    assert fetch.target.read_bytes() == CONTENT
    assert capsys.readouterr().out.startswith("progress ")
    (path, headers), *_ = server.asked
    assert path == "/disk.qcow2"
    assert headers["Host"] == server.url.removeprefix("http://")


def test_a_chunked_answer_is_downloaded(fetch, server):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(CONTENT), 100_000):
            piece = CONTENT[start : start + 100_000]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")

    server.answer = answer
    assert fetch()["size"] == len(CONTENT)


@pytest.mark.parametrize("address", [
    "127.0.0.1", "127.255.1.2", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254",
    "169.254.1.1", "192.0.2.1", "198.18.0.1", "203.0.113.5", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.8",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "fe80::1", "fe80::1%lo", "fc00::1",
    "fd12:3456::1", "fec0::1", "ff02::1", "2001:db8::1", "::127.0.0.1", "100::1", "2001:0:7f00:1::1",
])  # fmt: skip
def test_no_address_of_the_inside_is_connected_to(address):
    with pytest.raises(Unfit, match="no public address"):
        Rules({}).check("name.example", ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]
)
def test_public_addresses_are(address):
    Rules({}).check("name.example", ipaddress.ip_address(address))


def test_an_administrator_allows_and_denies():
    private, loopback, public = (ipaddress.ip_address(one) for one in ("10.0.0.5", "127.0.0.1", "1.1.1.1"))
    Rules({"allow_private": True}).check("a", private)
    Rules({"allow": ["10.0.0.0/24"]}).check("a", private)
    Rules({"allow": ["Mirror.example."]}).check("mirror.example", private)
    for rules, address in (
        ({"allow_private": True}, loopback),
        ({"allow_private": True}, ipaddress.ip_address("169.254.169.254")),
        ({"allow": ["10.0.0.0/24"], "deny": ["10.0.0.5"]}, private),
        ({"deny": ["1.0.0.0/8"]}, public),
        ({"deny": ["a"]}, public),
        ({"deny": ["1.0.0.0/8"]}, ipaddress.ip_address("::ffff:1.1.1.1")),
    ):
        with pytest.raises(Unfit):
            Rules(rules).check("a", address)


@pytest.mark.parametrize("url", [
    "file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "//127.0.0.1/x", "http:///x", "http://a b/",
    "http://user:secret@127.0.0.1/", "http://127.0.0.1:22/", "http://127.0.0.1:25/", "http://127.0.0.1:99999/",
    "http://127.0.0.1/\r\nX: y", "http://" + "a" * 3000, "http://[::1", "nbd://127.0.0.1", "",
])  # fmt: skip
def test_only_plain_addresses_of_the_web_are_taken(url):
    with pytest.raises(Unfit) as refusal:
        parse(url)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]", "0"]
)
def test_an_address_in_any_dress_is_checked(host, server):
    port = server.url.rsplit(":", 1)[1]
    with pytest.raises((Unfit, Failed)):
        follow(f"http://{host}:{port}/", Rules({}))
    assert server.asked == []


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2:80/", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd"]
)
def test_a_redirect_is_checked_like_the_first_address(target, fetch, server):
    server.answer = server.status(302, Location=target)
    with pytest.raises(Unfit):
        fetch()
    assert not fetch.target.exists()
    assert len(server.asked) == 1


def test_redirects_are_followed_but_not_for_ever(fetch, server):
    def once(handler):
        server.answer = server.good
        server.status(301, Location="/elsewhere")(handler)

    server.answer = once
    assert fetch()["size"] == len(CONTENT)
    server.answer = server.status(302, Location="/again")
    server.asked.clear()
    with pytest.raises(Unfit, match="more than 5 times"):
        fetch()
    assert len(server.asked) == 6


def test_the_address_that_was_checked_is_the_one_connected_to(fetch, server, monkeypatch):
    """A name that is public when it is checked and leads inside when it is connected to."""
    port = int(server.url.rsplit(":", 1)[1])
    asked, connected = [], []

    def look_up(name, port, **_):
        asked.append(name)
        address = "93.184.216.34" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(address, timeout):
        connected.append(address)
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(Failed):
        follow(f"http://rebind.example:{port}/", Rules({}))
    assert asked == ["rebind.example"]
    assert connected == [("93.184.216.34", port)]


def test_a_name_with_one_forbidden_address_is_not_connected_to_at_all(monkeypatch):
    answers = [(socket.AF_INET, 1, 6, "", (address, 80)) for address in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    with pytest.raises(Unfit, match=r"10\.0\.0\.1"):
        follow("http://both.example/", Rules({}))


def test_what_is_too_large_is_refused_before_and_while_it_comes(fetch, server):
    with pytest.raises(Unfit, match="are allowed"):
        fetch(max_bytes=1000)
    server.answer = lambda handler: server.good(handler, length=10)

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"\0" * 65536)

    server.answer = endless
    with pytest.raises(Unfit, match="more than the"):
        fetch(max_bytes=1 << 20)


def test_a_file_that_ends_early_may_be_tried_again(fetch, server):
    server.answer = lambda handler: server.good(handler, length=len(CONTENT) + 5)
    with pytest.raises(Failed, match="before the end"):
        fetch()


def test_a_slow_server_does_not_hold_a_download(fetch, server, monkeypatch):
    monkeypatch.setattr(downloader, "SECONDS_BEFORE_SLOW", 0.2)
    monkeypatch.setattr(downloader, "MIN_BYTES_PER_SECOND", 1 << 20)

    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.05)

    server.answer = drip
    with pytest.raises(Unfit, match="too slowly"):
        fetch()


def trailers(handler):
    handler.wfile.write(b"1\r\nx\r\n0\r\n")
    while True:
        handler.wfile.write(b"x: y\r\n" * 50)
        time.sleep(0.05)


def a_chunk_extension(handler):
    handler.wfile.write(b"5")
    while True:
        handler.wfile.write(b";")
        time.sleep(0.05)


@pytest.mark.parametrize("endless", [trailers, a_chunk_extension])
@pytest.mark.parametrize(
    ("slow_after", "most", "words"), [(0.2, 60, "too slowly"), (60, 0.5, "longer than is allowed")]
)
def test_what_is_no_content_does_not_hold_a_download(endless, slow_after, most, words, fetch, server, monkeypatch):
    monkeypatch.setattr(downloader, "SECONDS_BEFORE_SLOW", slow_after)
    monkeypatch.setattr(downloader, "SECONDS_BETWEEN_CHECKS", 0.05)

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        endless(handler)

    server.answer = answer
    with pytest.raises(Unfit, match=words):
        fetch(max_seconds=most)


@pytest.mark.parametrize(
    "headers",
    [
        [("Transfer-Encoding", "gzip, chunked")],
        [("Content-Length", "3"), ("Content-Length", "30")],
        [("Content-Length", "-3")],
        [("Content-Length", "9" * 4000)],
    ],
)
def test_a_length_that_can_be_read_differently_is_refused(headers, fetch, server):
    def answer(handler):
        handler.send_response(200)
        for header in headers:
            handler.send_header(*header)
        handler.end_headers()
        handler.wfile.write(b"3\r\nabc\r\n0\r\n\r\n")

    server.answer = answer
    with pytest.raises(Unfit, match="transfer coding|how long the file is"):
        fetch()


def test_headers_that_never_end_do_not_hold_a_download(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(downloader, "SECONDS_TO_ANSWER", 1)

    def drip(handler):
        while True:
            handler.wfile.write(b"X")
            time.sleep(0.05)

    server.answer = drip
    downloader.main(
        os.fspath(tmp_path / "file"),
        '{"url": "%s/", "max_bytes": 100, "max_seconds": 60, "allow": ["127.0.0.1"]}' % server.url,  # noqa: UP031
    )
    assert "takes too long to answer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "words", "again"), [(404, "404", False), (401, "401", False), (503, "503", True), (429, "429", True)]
)
def test_an_answer_without_a_file_is_said(code, words, again, fetch, server):
    server.answer = server.status(code)
    with pytest.raises(Failed if again else Unfit, match=words):
        fetch()


def test_no_compressed_answer_is_unpacked(fetch, server):
    server.answer = lambda handler: server.good(handler, Content_Encoding="gzip")
    with pytest.raises(Unfit, match="compressed"):
        fetch()


def test_what_is_no_web_server_is_said(fetch, server):
    server.answer = lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n" * 3)
    with pytest.raises(Unfit, match="as a web server does"):
        fetch()
