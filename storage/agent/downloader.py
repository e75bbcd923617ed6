"""A download as a program of its own: `python -m storage.agent.downloader TARGET REQUEST`, REQUEST being JSON.

{"url", "max_bytes", "max_seconds", "allow_private", "allow": [network or host name, …], "deny": […]}

It reads an address that a tenant gave, so it trusts nothing: every address is checked after its name was looked up, and
that very address is connected to. It prints "progress DONE OF|-" and at the end JSON: {"size", "sha256"} or
{"unfit": why not} or {"failed": why it may work another time}.
"""

import hashlib
import http.client
import ipaddress
import json
import os
import re
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

MAX_REDIRECTS = 5
MAX_URL = 2048
MAX_ADDRESSES = 8
SECONDS_TO_CONNECT = 10.0
SECONDS_TO_ANSWER = 60  # until all headers are here, redirects included
SECONDS_OF_SILENCE = 30.0
MIN_BYTES_PER_SECOND = 1024
SECONDS_BEFORE_SLOW = 60.0
SECONDS_BETWEEN_CHECKS = 0.25
PIECE = 1 << 20
PORTS = (80, 443)  # and all from 1024 on: below are the services of machines

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an address of IPv4 behind a translator
LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215
PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)


class Unfit(Exception):
    """This address will not do, however often it is tried. The words are for the tenant."""


class Failed(Exception):
    """It did not work this time."""


class Rules:
    """Which addresses may be connected to. What is denied wins; then what is allowed; then public ones."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._allow, self._deny = list(request.get("allow") or []), list(request.get("deny") or [])
        self._allow_private = bool(request.get("allow_private"))

    def check(self, name: str, address: Address) -> None:
        """Raises Unfit."""
        inner = list(inner_addresses(address))
        if self._is_listed(self._deny, name, inner):
            raise Unfit(f"Downloads from {name} ({address}) are not allowed here: an administrator has excluded it.")
        if self._is_listed(self._allow, name, inner):
            return
        for one in inner:
            if not (is_public(one) or (self._allow_private and is_private(one))):
                raise Unfit(
                    f"{name} is at {address}, which is no public address. Put the file on a public server, "
                    "upload it, or ask an administrator to allow this address."
                )

    @staticmethod
    def _is_listed(words: list[str], name: str, addresses: list[Address]) -> bool:
        for word in words:
            try:
                network = ipaddress.ip_network(word, strict=False)
            except ValueError:
                if name.lower().rstrip(".") == word.lower().rstrip("."):
                    return True
            else:
                if any(address.version == network.version and address in network for address in addresses):
                    return True
        return False


def inner_addresses(address: Address) -> Iterator[Address]:
    """An address, and those of IPv4 to which it leads in the end."""
    yield address
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in NAT64:
            inner.append(ipaddress.IPv4Address(address.packed[-4:]))
        yield from (one for one in inner if one is not None)


def is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped or address.sixtofour or address.teredo or address in NAT64:
            return True  # the addresses inside are judged
        if address.is_site_local or address.scope_id or address in LOCAL_NAT64:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_private(address: Address) -> bool:
    return any(address.version == network.version and address in network for network in PRIVATE) or is_public(address)


def look_up(name: str, port: int) -> list[Address]:
    """The addresses of a host. Raises Unfit or Failed."""
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except socket.gaierror as problem:
        if problem.errno == socket.EAI_AGAIN:
            raise Failed(f"the name {name} could not be looked up: {problem.strerror}") from problem
        raise Unfit(f"There is no host of the name {name}. Correct the address.") from problem
    except (UnicodeError, ValueError) as problem:
        raise Unfit(f"{name!r} is no name of a host. Correct the address.") from problem
    addresses = [ipaddress.ip_address(str(one[4][0])) for one in found]
    return list(dict.fromkeys(addresses))[:MAX_ADDRESSES]


def connect(name: str, port: int, rules: Rules) -> socket.socket:
    """Connect to an address that was checked, and to no other. Raises Unfit or Failed."""
    addresses = look_up(name, port)
    for address in addresses:  # all of them, so that none is tried before another is found to be forbidden
        rules.check(name, address)
    reason = ""
    for address in addresses:
        try:
            return socket.create_connection((str(address), port), timeout=SECONDS_TO_CONNECT)
        except OSError as problem:
            reason = problem.strerror or str(problem)
    raise Failed(f"{name} does not answer at port {port}: {reason}")


def parse(url: str) -> tuple[SplitResult, int]:
    """The parts of an address and its port. Raises Unfit."""
    if len(url) > MAX_URL or any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise Unfit("The address is too long, or has blanks in it. Correct it.")
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError as problem:
        raise Unfit(f"The address cannot be read: {problem}. Correct it.") from problem
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unfit("The address must begin with http:// or https://, and name a host.")
    if parts.username is not None or parts.password is not None:
        raise Unfit(
            "The address holds a name or a password. Leave them out: everybody who sees the image would see them."
        )
    if port not in PORTS and port < 1024:
        raise Unfit(f"Port {port} is not allowed: a download is at port 80, 443, or one from 1024 on.")
    return parts, port


def request(url: str, rules: Rules) -> tuple[http.client.HTTPResponse, http.client.HTTPConnection]:
    """The answer to one GET. Raises Unfit or Failed."""
    parts, port = parse(url)
    host = str(parts.hostname)
    stream = connect(host, port, rules)
    stream.settimeout(SECONDS_OF_SILENCE)
    if parts.scheme == "https":
        try:
            stream = ssl.create_default_context().wrap_socket(stream, server_hostname=host)
        except ssl.SSLCertVerificationError as problem:
            raise Unfit(f"The certificate of {host} is not valid: {problem.verify_message}.") from problem
    connection = http.client.HTTPConnection(host, port)
    connection.sock = stream
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        headers = {"Accept-Encoding": "identity", "User-Agent": "pileus", "Connection": "close"}
        connection.request("GET", target, headers=headers)
        return connection.getresponse(), connection
    except (http.client.HTTPException, UnicodeError, ValueError) as problem:
        raise Unfit(f"{host} does not answer as a web server does: {problem!r}.") from problem


def follow(url: str, rules: Rules) -> http.client.HTTPResponse:
    """The answer behind all redirects, each of which is checked as the first. Raises Unfit or Failed."""
    for _ in range(MAX_REDIRECTS + 1):
        answer, connection = request(url, rules)
        if answer.status == 200:
            if answer.getheader("Content-Encoding", "identity").lower() != "identity":
                raise Unfit("The server sends the file compressed although it was asked not to.")
            return answer
        connection.close()
        if answer.status in (301, 302, 303, 307, 308) and (location := answer.getheader("Location")):
            target = urljoin(url, location)
            if url.startswith("https:") and not target.startswith("https:"):
                raise Unfit("The server leads from https to an address without encryption. Use another address.")
            url = target
        elif answer.status in (408, 425, 429) or answer.status >= 500:
            raise Failed(f"the server answered with status {answer.status}")
        else:
            raise Unfit(
                f"The server answered with status {answer.status}. Is the address right, and open to everybody?"
            )
    raise Unfit(f"The address leads on more than {MAX_REDIRECTS} times. Use the last one.")


def download(target: str, wish: dict[str, Any]) -> dict[str, Any]:
    """Write the file. Raises Unfit, Failed or OSError."""
    most, deadline = int(wish["max_bytes"]), time.monotonic() + float(wish["max_seconds"])
    signal.alarm(SECONDS_TO_ANSWER)
    answer = follow(wish["url"], Rules(wish))
    signal.alarm(0)
    _check_framing(answer)
    length = answer.length
    if length is not None and length > most:
        raise Unfit(f"The file is of {length:,} bytes, and {most:,} are allowed.")
    digest, done, began, told = hashlib.sha256(), 0, time.monotonic(), 0.0

    def check_pace(*_: object) -> None:
        now = time.monotonic()
        if now > deadline:
            raise Unfit("The download took longer than is allowed. Put the file on a faster server, or upload it.")
        if now - began > SECONDS_BEFORE_SLOW and done < (now - began) * MIN_BYTES_PER_SECOND:
            raise Unfit("The server sends too slowly. Put the file on a faster server, or upload it.")

    with open(target, "xb") as file, _again_and_again(check_pace):
        while piece := answer.read1(PIECE):
            done += len(piece)
            now = time.monotonic()
            if done > most:
                raise Unfit(f"The file is of more than the {most:,} bytes that are allowed.")
            digest.update(piece)
            file.write(piece)
            if now - told > 1:
                told = now
                print("progress", done, length + done if (length := answer.length) is not None else "-", flush=True)
    if answer.length:
        raise Failed("the server closed the connection before the end of the file")
    return {"size": done, "sha256": digest.hexdigest()}


def _check_framing(answer: http.client.HTTPResponse) -> None:
    """Raises Unfit when where the file ends is told in a way that can be read differently (RFC 9112, section 6)."""
    coding, lengths = answer.getheader("Transfer-Encoding"), answer.headers.get_all("Content-Length", [])
    if coding is not None and coding.strip().lower() != "chunked":
        raise Unfit("The server sends the file in a transfer coding that was not asked for.")
    if len(set(lengths)) > 1 or any(not re.fullmatch(r"[0-9]{1,18}", length.strip()) for length in lengths):
        raise Unfit("The server does not say clearly how long the file is.")


@contextmanager
def _again_and_again(check: Callable[..., None]) -> Iterator[None]:
    """Call it several times a second, also while nothing is given back by a read: chunks and trailers that never end
    are read inside of http.client."""
    before = signal.signal(signal.SIGALRM, check)
    signal.setitimer(signal.ITIMER_REAL, SECONDS_BETWEEN_CHECKS, SECONDS_BETWEEN_CHECKS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _too_slow(*_: object) -> None:
    raise Unfit("The server takes too long to answer. Put the file on another server, or upload it.")


def main(target: str, wish: str) -> None:
    signal.signal(signal.SIGALRM, _too_slow)
    try:
        said = download(target, json.loads(wish))
    except Unfit as problem:
        said = {"unfit": str(problem)}
    except (Failed, OSError, http.client.HTTPException) as problem:
        said = {"failed": str(problem) or type(problem).__name__}
    if "sha256" not in said and os.path.exists(target):
        os.unlink(target)
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
