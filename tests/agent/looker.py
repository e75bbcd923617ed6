"""A process without threads that forks a child for every look of a host, so that the child can be killed.

`Looker` is the test's side of it; run as a module this file is the other side: a line of JSON in, an exit status out.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path


class Looker:
    """Runs looks of hosts in processes of their own. `host`: "module:class", made of the URL and the home."""

    def __init__(self, host: str) -> None:
        command = [sys.executable, "-m", __name__, host]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def look(self, url: str, home: Path, fault: str, trace: Path, verb: str = "look") -> int:
        """One look of the host at `home`; its exit status, negative for a signal.

        With the verb `interrupt` all that is on it is switched off as by `pileus-agent stop-all`.
        """
        assert self._process.stdin
        assert self._process.stdout
        wish = {"url": url, "home": str(home), "fault": fault, "trace": str(trace), "verb": verb}
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def look_once(wish: dict[str, str]) -> None:
    os.environ |= {"PILEUS_FAULT": wish["fault"], "PILEUS_FAULT_TRACE": wish["trace"]}
    host = HOST(wish["url"], Path(wish["home"]))
    if wish["verb"] == "interrupt":
        for entry in host.ledger.entries():
            host.interrupt(entry, grace=1)
    else:
        host.look_once()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what hosts print is no answer
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
    module, name = sys.argv[1].split(":")
    HOST = getattr(importlib.import_module(module), name)  # before the first fork: an import takes longer than a look
    main()
