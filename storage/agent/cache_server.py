"""Serves the image cache of this host to other hosts: `python -m storage.agent.cache_server SOCKET IDENTITY FOLDER`.

SOCKET is the descriptor of a listening socket, IDENTITY a file with the key and the certificate of this host. A program
of its own, with as little right as possible: it reads whole files by their SHA-256, and connects to nobody. On standard
input it gets JSON, a line each: {"key": hex, of the tickets; "downloads": how many at once}. When that ends, it ends.
For each file that it sent it prints a line of JSON: {"sent": bytes, "sha256", "to": host id}.
"""

import asyncio
import contextlib
import json
import os
import re
import socket
import ssl
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11

from storage import tickets

SECONDS_TO_ASK = 5.0  # for the handshake, and again for the request
SECONDS_TO_TAKE = 30.0  # for each piece
MAX_HEAD = 8 << 10
MAX_CONNECTIONS = 64  # that ask, or are being answered
PIECE = 1 << 20
RETRY_AFTER = 2  # seconds
PATH = re.compile(rb"/files/([0-9a-f]{64})")
RANGE = re.compile(rb"bytes=([0-9]{1,18})-")


class Refusal(Exception):
    """What is answered instead of a file."""

    def __init__(self, status: int, words: str, **headers: str) -> None:
        super().__init__(words)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass
class Settings:
    """What the host's worker says. Without a key no ticket is good."""

    key: bytes = b""
    downloads: int = 0

    def take(self, line: bytes) -> None:
        told = json.loads(line)
        self.key, self.downloads = bytes.fromhex(told["key"]), int(told["downloads"])


class Listener:
    """Answers one request of each connection."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings
        self._connections = self._downloads = 0

    async def attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                await self._answer(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, h11.RemoteProtocolError):
            writer.transport.abort()  # never an end that could pass for that of a whole file
        finally:
            self._connections -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        async with asyncio.timeout(SECONDS_TO_ASK):
            request = await _request(http, reader)
        try:
            await self._send_file(http, request, writer)
        except Refusal as refusal:
            body = str(refusal).encode()
            headers = {"Content-Length": str(len(body)), "Content-Type": "text/plain; charset=utf-8", **refusal.headers}
            await _send(http, writer, _head(refusal.status, headers))
            await _send(http, writer, h11.Data(data=body))
            await _send(http, writer, h11.EndOfMessage())

    async def _send_file(self, http: h11.Connection, request: h11.Request, writer: asyncio.StreamWriter) -> None:
        """Raises Refusal before anything of it was sent."""
        match = PATH.fullmatch(request.target)
        if not match:
            raise Refusal(404, "there is nothing but /files/SHA256")
        if request.method != b"GET":
            raise Refusal(405, "files can only be read", Allow="GET")
        sha256, headers = match[1].decode(), dict(request.headers)
        scheme, _, ticket = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        try:
            host = tickets.read(self._settings.key, ticket if scheme == "Ticket" else "", sha256, time.time())
        except PermissionError as why:
            raise Refusal(403, str(why)) from why
        if self._downloads >= self._settings.downloads:
            raise Refusal(503, "as many hosts as this one serves at once are here", Retry_After=str(RETRY_AFTER))
        self._downloads += 1
        try:
            with contextlib.closing(_Opened(self._folder / sha256)) as file:
                sent = await _stream(http, headers, file, writer)
        finally:
            self._downloads -= 1
        print(json.dumps({"sent": sent, "sha256": sha256, "to": host}), flush=True)


class _Opened:
    """A file that stays whole while it is served, even if the cache lets it go meanwhile."""

    def __init__(self, path: Path) -> None:
        try:
            self.handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise Refusal(404, "this file is not here") from error
        found = os.fstat(self.handle)
        self.size = found.st_size
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise Refusal(404, "this file is not here")

    async def read(self, size: int, offset: int) -> bytes:
        return await asyncio.to_thread(os.pread, self.handle, size, offset)

    def close(self) -> None:
        os.close(self.handle)


async def _request(http: h11.Connection, reader: asyncio.StreamReader) -> h11.Request:
    while True:
        event = http.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            raise h11.RemoteProtocolError("no request")
        http.receive_data(await reader.read(MAX_HEAD))


async def _stream(
    http: h11.Connection, headers: dict[bytes, bytes], file: _Opened, writer: asyncio.StreamWriter
) -> int:
    """Send it, or the rest of it from the offset that is asked for (RFC 9110, section 14); how many bytes that was."""
    part = RANGE.fullmatch(headers.get(b"range", b""))
    first = int(part[1]) if part else 0
    if part and first >= file.size:
        raise Refusal(416, f"it has {file.size} bytes", Content_Range=f"bytes */{file.size}")
    told = {"Content-Length": str(file.size - first), "Content-Type": "application/octet-stream"}
    if part:
        told["Content-Range"] = f"bytes {first}-{file.size - 1}/{file.size}"
    await _send(http, writer, _head(206 if part else 200, told))
    offset = first
    while offset < file.size:
        piece = await file.read(min(PIECE, file.size - offset), offset)
        if not piece:
            raise OSError("the file has become shorter")
        offset += len(piece)
        await _send(http, writer, h11.Data(data=piece))
    await _send(http, writer, h11.EndOfMessage())
    return offset - first


def _head(status: int, headers: dict[str, str]) -> h11.Response:
    return h11.Response(status_code=status, headers=list({**headers, "Connection": "close"}.items()))


async def _send(http: h11.Connection, writer: asyncio.StreamWriter, event: Any) -> None:
    content = http.send(event)
    if content:
        writer.write(content)
        async with asyncio.timeout(SECONDS_TO_TAKE):
            await writer.drain()


async def serve(descriptor: int, identity: str, folder: Path) -> None:
    """Until standard input ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(identity)
    settings = Settings()
    told = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    settings.take(await told.readline())
    listener = Listener(folder, settings)
    listening = socket.socket(fileno=descriptor)
    server = await asyncio.start_server(
        listener.attend, sock=listening, ssl=context, ssl_handshake_timeout=SECONDS_TO_ASK, ssl_shutdown_timeout=2.0
    )
    async with server:
        while line := await told.readline():
            settings.take(line)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
