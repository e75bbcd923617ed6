"""A process without threads that forks a child for every look of a node, so that the child can be killed.

`Looker` is the test's side of it; run as a module this file is the other side: a line of JSON in, an exit status out.
"""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.compute.agent.virtual import QemuNode
from tests.fakes import FakeNode, Request


class Looker:
    """Runs looks of nodes in processes of their own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def look(self, kind: str, url: str, home: Path, fault: str, trace: Path, verb: str = "look") -> int:
        """One look of the `fake` or `qemu` node at `home`; its exit status, negative for a signal.

        With the verb `interrupt` all its machines are switched off as by `pileus-agent stop-all`.
        """
        assert self._process.stdin
        assert self._process.stdout
        wish = {"kind": kind, "url": url, "home": str(home), "fault": fault, "trace": str(trace), "verb": verb}
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def over_http(url: str) -> Request:
    """A FakeNode's way to a control plane in another process."""

    def request(method: str, path: str, body: Any, token: str) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        asked = urllib.request.Request(url + path, json.dumps(body).encode(), headers, method=method)
        try:
            with urllib.request.urlopen(asked) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read())

    return request


def look_once(wish: dict[str, str]) -> None:
    os.environ |= {"PILEUS_FAULT": wish["fault"], "PILEUS_FAULT_TRACE": wish["trace"]}
    home = Path(wish["home"])
    node = FakeNode(over_http(wish["url"]), home) if wish["kind"] == "fake" else QemuNode(wish["url"], home)
    if wish["verb"] == "interrupt":
        for entry in node.ledger.entries():
            node.switch_off(entry.id)
        return
    if isinstance(node, FakeNode):
        node.look()
    else:
        node.look_once()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what nodes print is no answer
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                look_once(json.loads(line))
            except BaseException as problem:  # noqa: BLE001
                sys.stderr.write(f"{problem!r}\n")
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    main()
