"""A guest's serial console, as a program with a token opens it: log in, and ask the guest's shell."""

import contextlib
import json
import re
import time
from types import TracebackType

import httpx
from websockets.sync.client import connect

PATIENCE = 120  # seconds: emulated, on a machine that may have much else to do


class Serial:
    """The console of one instance: `with Serial(api, "/projects/demo/instances/web") as serial`."""

    def __init__(self, api: httpx.Client, instance: str) -> None:
        answer = api.post(f"{instance}/console", json={"kind": "serial"})
        assert answer.status_code == 200, answer.text
        headers = {"Authorization": api.headers["Authorization"]}
        url = answer.json()["url"]
        self._open = contextlib.ExitStack()
        self._socket = self._open.enter_context(connect(url, additional_headers=headers, proxy=None, compression=None))
        self._before = int(json.loads(self._socket.recv(timeout=PATIENCE))["before"])
        self._said = b""

    def __enter__(self) -> "Serial":
        return self

    def __exit__(self, kind: type | None, error: Exception | None, trace: TracebackType | None) -> None:
        self._open.close()

    def type(self, line: str) -> None:
        """What is expected from now on comes after this."""
        while len(self._said) < self._before:
            self._hear(PATIENCE)
        self._said, self._before = b"", 0
        self._socket.send(f"{line}\r".encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until the guest has said this, since something was typed or, before that, ever."""
        until = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self._said.decode(errors="replace"))):
            left = until - time.monotonic()
            assert left > 0, f"no {pattern} in: {self._said[-500:]!r}"
            self._hear(left)
        return found

    def log_in(self, password: str) -> None:
        self.expect(r"(?s)READY(?!.*READY).*login:")  # of its last boot: nobody listens at the prompts before
        self.type("root")
        self.expect("Password:")
        self.type(password)
        self.expect("#")

    def _hear(self, seconds: float) -> None:
        content = self._socket.recv(timeout=seconds)
        assert isinstance(content, bytes)
        self._said += content
