"""Keeps a server of this host's image cache running for other hosts, where an admin has given it an address.

`PILEUS_PEER_ADDRESS`: HOST:PORT as other hosts reach it. `PILEUS_PEER_LISTEN`: where to listen, if that is another
address. `PILEUS_PEER_DOWNLOADS`: how many hosts fetch from here at once. The server is a confined program
(`cache_server.py`) that inherits the listening socket; what is wrong is in the heartbeats.
"""

import contextlib
import datetime
import hashlib
import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent import folders
from agent.control_plane import ControlPlane
from agent.durability import write_secret
from agent.errors import Refused, Unreachable
from agent.paths import Paths, make_passable
from storage.agent.confined import Bounds, Helpers, Program, View, own_python, python
from storage.agent.image_cache import ImageCache
from storage.agent.peers import split

log = structlog.get_logger()

DOWNLOADS = 4
SECONDS_BETWEEN_QUESTIONS = 60.0
SECONDS_BETWEEN_TRIES = 15.0
SECONDS_A_FAULT_IS_SHOWN = 3600.0
YEARS = 100  # nobody but its fingerprint vouches for a certificate, so its dates mean nothing
MAX_IDENTITY = 16 << 10
BOUNDS = Bounds(seconds=10 * 365 * 24 * 3600, memory_bytes=2 << 30)


class Serving(threading.Thread):
    """Runs until `stopping` is set."""

    def __init__(
        self, paths: Paths, helpers: Helpers, control_plane: ControlPlane, cache: ImageCache, stopping: threading.Event
    ) -> None:
        super().__init__(name="serving", daemon=True)
        self._address = os.environ.get("PILEUS_PEER_ADDRESS", "")
        self._listen = os.environ.get("PILEUS_PEER_LISTEN", "") or self._address
        self._downloads = os.environ.get("PILEUS_PEER_DOWNLOADS", "") or str(DOWNLOADS)
        self._identity = paths.home / "peers" / "identity.pem"
        self._helpers = helpers
        self._control_plane = control_plane
        self._cache = cache
        self._stopping = stopping
        self._fingerprint = ""  # while it serves
        self._problem = ""
        self._ended_at = -SECONDS_A_FAULT_IS_SHOWN
        self._served = {"files": 0, "bytes": 0}

    @property
    def is_wanted(self) -> bool:
        return bool(self._address)

    def describe(self) -> dict[str, Any]:
        """For the host's capabilities: where it serves, if it does; what it has served since this worker began."""
        if not self._fingerprint:
            return {}
        own_user, own_root = (self._helpers.describe()[name] for name in ("uid", "mounts"))
        return {
            "serves": {
                "address": self._address,
                "fingerprint": self._fingerprint,
                "downloads": int(self._downloads),
                "confined": own_user and own_root,
            },
            "served": dict(self._served),
        }

    def problems(self) -> list[dict[str, str]]:
        problem = self._problem
        if not problem and time.monotonic() - self._ended_at < SECONDS_A_FAULT_IS_SHOWN:
            problem = "the server of the image cache has ended by itself, and was started again: see the worker's log"
        return [{"what": "peers", "problem": problem}] if problem else []

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._serve()
                self._tell("")
            except Unreachable:
                pass  # the heartbeats say so
            except (Refused, OSError, ValueError) as error:
                self._tell(f"other hosts get no images from this one: {error}")
            except Exception as error:
                log.exception("serving images failed")
                self._tell(f"other hosts get no images from this one: {error!r}")
            finally:
                self._fingerprint = ""
            self._stopping.wait(SECONDS_BETWEEN_TRIES)

    def _tell(self, problem: str) -> None:
        """Once for each change, not at every try."""
        if problem and problem != self._problem:
            log.error("images are not served", problem=problem)
        self._problem = problem

    def _serve(self) -> None:
        """Until the server ends, or this host stops. Raises Unreachable, Refused, OSError, ValueError."""
        split(self._address)
        if not self._downloads.isdecimal() or not int(self._downloads):
            raise ValueError(f"PILEUS_PEER_DOWNLOADS is {self._downloads!r}, which is no number above 0")
        uid = self._helpers.uid_of_server
        fingerprint = self._make_identity(uid)
        with listening(self._listen) as door:
            told = self._ask()
            argv = python(
                "storage.agent.cache_server", str(door.fileno()), str(self._identity), str(self._cache.directory)
            )
            view = View(readable=(*own_python(), self._identity, self._cache.directory))
            server = subprocess.Popen(  # noqa: S603
                self._helpers.command(Program(argv, BOUNDS, view), uid),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(door.fileno(),),
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )
        try:
            threading.Thread(target=self._count, args=(server,), name="served", daemon=True).start()
            self._instruct(server, told)
            self._fingerprint = fingerprint
            self._tell("")
            self._stay(server, told)
        finally:
            self._fingerprint = ""
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, 9)
            server.wait()
            assert server.stdin
            with contextlib.suppress(OSError):
                server.stdin.close()

    def _stay(self, server: "subprocess.Popen[bytes]", told: dict[str, Any]) -> None:
        asked_at = time.monotonic()
        while not self._stopping.wait(1.0):
            if server.poll() is not None:
                self._ended_at = time.monotonic()
                log.error("the server of the image cache has ended", status=server.returncode)
                return
            if time.monotonic() - asked_at < SECONDS_BETWEEN_QUESTIONS:
                continue
            asked_at = time.monotonic()
            with contextlib.suppress(Unreachable):
                before, told = told, self._ask()
                if told["key"] != before["key"]:
                    self._instruct(server, told)

    def _ask(self) -> dict[str, Any]:
        """The key of the tickets. What other hosts say is damaged here is looked at: only this host throws it away."""
        told = self._control_plane.ask("GET", "/agent/v1/serving")
        for sha256 in told.get("doubted", []):
            self._cache.check(str(sha256))
        return told

    def _instruct(self, server: "subprocess.Popen[bytes]", told: dict[str, Any]) -> None:
        assert server.stdin
        with contextlib.suppress(BrokenPipeError):
            line = json.dumps({"key": str(told["key"]), "downloads": int(self._downloads)})
            server.stdin.write(line.encode() + b"\n")
            server.stdin.flush()

    def _count(self, server: "subprocess.Popen[bytes]") -> None:
        assert server.stdout
        with server.stdout:
            for line in server.stdout:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    sent = json.loads(line)
                    self._served = {
                        "files": self._served["files"] + 1,
                        "bytes": self._served["bytes"] + int(sent["sent"]),
                    }
                    log.info("served an image file", sha256=sent["sha256"], to=sent["to"], bytes=sent["sent"])

    def _make_identity(self, uid: int | None) -> str:
        """The fingerprint of this host's certificate. It and its key are made once, for the user of the server."""
        make_passable(self._identity.parent)
        try:
            known = folders.read_file(self._identity, MAX_IDENTITY)
            certificate = x509.load_pem_x509_certificate(known)
        except (FileNotFoundError, ValueError):
            write_secret(self._identity, new_identity())
            certificate = x509.load_pem_x509_certificate(folders.read_file(self._identity, MAX_IDENTITY))
        folders.give_file(self._identity, uid, 0o400)
        return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def new_identity() -> str:
    """A key and a certificate for it, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pileus image cache")])
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=365 * YEARS))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (private + certificate.public_bytes(serialization.Encoding.PEM)).decode()


def listening(address: str) -> socket.socket:
    """Raises OSError, whose words say what to do."""
    host, port = split(address)
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server((where[0], port), family=family, backlog=128)
    except OSError as error:
        words = f"it cannot listen at {address} ({error.strerror or error}): see PILEUS_PEER_ADDRESS and _LISTEN"
        raise OSError(words) from error


def held(directory: Path, most: int) -> dict[str, int]:
    """The files of the cache that were asked for last, and their sizes in bytes."""
    found = []
    for name in folders.names(directory):
        if len(name) == 64 and (about := folders.status(directory / name)):
            found.append((about.st_mtime, name, about.st_size))
    return {name: size for _, name, size in sorted(found, reverse=True)[:most]}
