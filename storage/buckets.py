"""A bucket of an S3-compatible store: AWS, Ceph's RADOS gateway, MinIO and others.

botocore takes 40 MiB of a process: nothing imports this module but where a bucket is set (storage/store.py).
Every call has a deadline. When one has failed, further ones are refused at once for a while: threads of web do not
queue up for a store that is away.
"""

import hashlib
import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.parsers import ResponseParserError
from botocore.session import Session
from django.conf import settings
from django.utils import timezone
from urllib3.exceptions import HTTPError

from storage.store import StoreAway

MIB = 1 << 20
PART_BYTES = 16 * MIB  # of a file that is sent in parts: at least so many
MAX_PARTS = 10_000
PAGE = 1000
REMOVED_AT_ONCE = 8
SECONDS_REFUSED = 5.0  # after a call that failed
UNFINISHED_AFTER = timedelta(days=1)  # an upload in parts that nobody will end any more
PROBE = "probe"
ABSENT = {"NoSuchKey", "NoSuchUpload", "404"}

# For calls that somebody waits for, and for files that a control worker sends.
QUICK = {"connect_timeout": 2, "read_timeout": 5, "retries": {"mode": "standard", "total_max_attempts": 2}}
PATIENT = {"connect_timeout": 5, "read_timeout": 60, "retries": {"mode": "standard", "total_max_attempts": 4}}

_KEY = "set PILEUS_S3_ACCESS_KEY and PILEUS_S3_SECRET_KEY to one that may list, read, write and delete there"
WORDS = {
    "NoSuchBucket": "there is no such bucket: make it, or correct the name in the setting",
    "InvalidBucketName": "there can be no such bucket: correct the name in the setting",
    "AccessDenied": f"the key may not do this: {_KEY}",
    "403": f"the key may not do this: {_KEY}",
    "InvalidAccessKeyId": f"the key is not known: {_KEY}",
    "SignatureDoesNotMatch": "the secret does not fit the key: correct PILEUS_S3_SECRET_KEY",
    "RequestTimeTooSkewed": "the clocks differ: set this machine's, or the store's",
    "PermanentRedirect": "the bucket is in another region: correct PILEUS_S3_REGION",
    "IllegalLocationConstraintException": "the bucket is in another region: correct PILEUS_S3_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region: correct PILEUS_S3_REGION",
    "SlowDown": "it has too much to do: it is tried again",
}


class Altered(OSError):
    """A file has another SHA-256 than its name says."""


@dataclass
class Gate:
    """Whether the store at one endpoint serves. `why`: what its last call failed of; "": it did not."""

    why: str = ""
    closed_until: float = 0.0


_gates: dict[tuple[str, str], Gate] = {}
_gates_lock = threading.Lock()


class Bucket:
    """The objects of a bucket whose keys begin with a prefix. `address`: `s3://NAME` or `s3://NAME/PREFIX`.

    Every method raises StoreAway when the store does not serve. Writing the same again does no harm.
    """

    def __init__(self, address: str) -> None:
        self.name, _, prefix = address.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._gate = _gates.setdefault((str(settings.S3["endpoint"]), self.name), Gate())

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix} at {settings.S3['endpoint'] or 'AWS'}"

    # Whole objects that fit into memory

    def write(self, key: str, content: bytes) -> None:
        """It is there, and durable, when this returns; or not at all."""
        self._ask("put_object", key, Body=content)

    def read(self, key: str) -> bytes:
        """Raises FileNotFoundError."""
        with self.open(key) as source:
            return b"".join(iter(lambda: source.read(MIB), b""))

    def remove(self, *keys: str) -> None:
        """One by one: not every store can remove several at once."""
        if len(keys) == 1:
            self._ask("delete_object", keys[0])
            return
        with ThreadPoolExecutor(REMOVED_AT_ONCE, thread_name_prefix="removals") as pool:
            for done in [pool.submit(self._ask, "delete_object", key) for key in keys]:
                done.result()

    def files(self) -> Iterator[tuple[str, float]]:
        """Every key, and when it was last written: seconds since the epoch."""
        more: dict[str, Any] = {}
        while True:
            page = self._ask("list_objects_v2", Prefix=self.prefix, MaxKeys=PAGE, **more)
            for found in page.get("Contents", ()):
                yield found["Key"].removeprefix(self.prefix), found["LastModified"].timestamp()
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    # Files

    def size(self, key: str) -> int | None:
        """Its bytes; None: it is not there. (HEAD would not tell an absent object from an absent bucket.)"""
        page = self._ask("list_objects_v2", Prefix=self.prefix + key, MaxKeys=1)
        found = page.get("Contents", ())
        return int(found[0]["Size"]) if found and found[0]["Key"] == self.prefix + key else None

    def open(self, key: str) -> "Remote":
        """Raises FileNotFoundError."""
        return Remote(self, key)

    def get(self, key: str, offset: int) -> tuple[Any, int]:
        """The stream of an object's bytes from there on, and how many it has in all. Raises FileNotFoundError."""
        part: dict[str, Any] = {"Range": f"bytes={offset}-"} if offset else {}
        answer = self._ask("get_object", key, **part)
        return answer["Body"], offset + int(answer["ContentLength"])

    def upload(self, key: str, source: Path, sha256: str) -> None:
        """Send a file, whole or not at all. Raises Altered when it has another sum."""
        digest, size = hashlib.sha256(), source.stat().st_size
        with source.open("rb") as file:
            if size <= PART_BYTES:
                content = file.read()
                _require(sha256, hashlib.sha256(content).hexdigest(), source)
                self._ask("put_object", key, patient=True, Body=content)
                return
            upload = self._ask("create_multipart_upload", key, patient=True)["UploadId"]
            try:
                parts: list[dict[str, Any]] = []
                while piece := file.read(max(PART_BYTES, -(-size // MAX_PARTS))):
                    digest.update(piece)
                    parts.append(self._send_part(key, upload, len(parts) + 1, piece))
                _require(sha256, digest.hexdigest(), source)
                told: dict[str, Any] = {"UploadId": upload, "MultipartUpload": {"Parts": parts}}
                self._ask("complete_multipart_upload", key, patient=True, **told)
            except BaseException:
                with suppress(StoreAway, FileNotFoundError):  # otherwise `abort_unfinished` finds it
                    self._abort(key, upload)
                raise

    def _send_part(self, key: str, upload: str, number: int, piece: bytes) -> dict[str, Any]:
        told: dict[str, Any] = {"UploadId": upload, "PartNumber": number, "Body": piece}
        answer = self._ask("upload_part", key, patient=True, **told)
        return {"ETag": answer["ETag"], "PartNumber": number}

    def _abort(self, key: str, upload: str) -> None:
        self._ask("abort_multipart_upload", key, UploadId=upload)

    def abort_unfinished(self) -> int:
        """Give up uploads in parts whose sender died. How many that were."""
        old, gone, more = timezone.now() - UNFINISHED_AFTER, 0, dict[str, Any]()
        while True:
            page = self._ask("list_multipart_uploads", Prefix=self.prefix, **more)
            for found in page.get("Uploads", ()):
                if found["Initiated"] < old:
                    with suppress(FileNotFoundError):
                        self._abort(found["Key"].removeprefix(self.prefix), found["UploadId"])
                    gone += 1
            if not page.get("IsTruncated"):
                return gone
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def check(self) -> None:
        """Try all that is done in it."""
        self.write(PROBE, b"Pileus looks whether it can write here.")
        self.size(PROBE)
        with suppress(FileNotFoundError):  # another process looks, too
            self.read(PROBE)
        self.remove(PROBE)

    # Asking

    def _ask(self, call: str, key: str | None = None, *, patient: bool = False, **arguments: Any) -> dict[str, Any]:
        """One call. Raises FileNotFoundError when there is no such object."""
        if not patient:
            self._pass_gate()
        if key is not None:
            arguments["Key"] = self.prefix + key
        try:
            answer: dict[str, Any] = getattr(_client(patient), call)(Bucket=self.name, **arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in ABSENT:
                self._gate.why, self._gate.closed_until = "", 0.0
                raise FileNotFoundError(f"{key} is not in {self}") from None
            raise self.away(WORDS.get(code) or f"it answers {code}: read its log") from error
        except NoCredentialsError as error:
            raise self.away(f"there is no key: {_KEY}") from error
        except (BotoCoreError, ResponseParserError, HTTPError, OSError) as error:
            words = f"it does not answer ({error}): look whether it runs, and whether PILEUS_S3_ENDPOINT is right"
            raise self.away(words) from error
        self._gate.why, self._gate.closed_until = "", 0.0
        return answer

    def _pass_gate(self) -> None:
        """After a failure one tries again now and then; the others are refused meanwhile."""
        gate = self._gate
        with _gates_lock:
            if not gate.why:
                return
            now = time.monotonic()
            if now < gate.closed_until:
                raise StoreAway(gate.why)
            gate.closed_until = now + SECONDS_REFUSED

    def away(self, words: str) -> StoreAway:
        self._gate.why, self._gate.closed_until = f"{self}: {words}", time.monotonic() + SECONDS_REFUSED
        return StoreAway(self._gate.why)


class Remote(io.RawIOBase):
    """An object that is read in order. What breaks off is asked for once more from there on. Raises StoreAway."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket, self._key, self._at = bucket, key, 0
        self._body, self._size = bucket.get(key, 0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if begin + offset != self._at:
            self._drop()
            self._at = begin + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        piece = self._read(wanted) or self._read(wanted)
        if not piece:
            raise self._bucket.away(f"it broke off in the middle of {self._key}: look whether it runs")
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def _read(self, wanted: int) -> bytes:
        """b"": the connection was cut."""
        if self._body is None:
            self._body, _ = self._bucket.get(self._key, self._at)
        try:
            piece: bytes = self._body.read(wanted)
        except (BotoCoreError, HTTPError, OSError):
            piece = b""
        if not piece:
            self._drop()
        return piece

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def close(self) -> None:
        self._drop()
        super().close()


def _require(sha256: str, found: str, source: Path) -> None:
    if found != sha256:
        raise Altered(f"{source} has the SHA-256 {found}, not that of its name: look whether its disk is failing")


def _client(patient: bool) -> Any:
    return _client_of(**settings.S3, patient=patient)


@lru_cache(maxsize=8)
def _client_of(*, endpoint: str, region: str, path_style: bool, access_key: str, secret_key: str, patient: bool) -> Any:
    """One for all threads of a process. Without a key botocore looks for one: environment, file, role of a machine."""
    config = Config(
        **(PATIENT if patient else QUICK),
        max_pool_connections=32,
        tcp_keepalive=True,
        signature_version="s3v4",
        # The store compares each body with its signed SHA-256; further sums are not known to all stores.
        s3={"addressing_style": "path" if path_style else "auto", "payload_signing_enabled": True},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return Session().create_client(
        "s3",
        region_name=region,
        endpoint_url=endpoint or None,
        aws_access_key_id=access_key or None,
        aws_secret_access_key=secret_key or None,
        config=config,
    )
