"""A second kind of resource on a host. A thing is a small file that says how it is: there, asleep or frozen.

It proves that the ground floor knows nothing of machines. An order's spec is `{"id", "size", "file"?}`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.control_plane import ControlPlane
from agent.entries import Entry, Key
from agent.errors import Refused
from agent.host import Host
from agent.kinds import Kind, Sight, Tools
from agent.ledger import Ledger
from agent.paths import Paths
from agent.work import Work

TYPE = "thing"


class Things(Kind):
    type = TYPE
    verbs = {"ensure_there": "there", "ensure_asleep": "asleep", "ensure_gone": "gone"}

    def __init__(self, tools: Tools) -> None:
        self.directory = tools.paths.home / "things"
        self.directory.mkdir(exist_ok=True)
        self.refused = ""  # why orders are refused

    def obey(self, verb: str, entry: Entry, work: Work) -> Sight:
        if self.refused:
            raise Refused(self.refused)
        if verb == "ensure_gone":
            self.file(entry.id).unlink(missing_ok=True)
            return "gone", {}
        present = self.read(entry.id)
        made = present.get("made", 0) + (not present)
        self._write(entry.id, state=self.verbs[verb], size=entry.spec["size"], made=made, interrupted=False)
        return self.verbs[verb], {"size": entry.spec["size"]}

    def look(self, entry: Entry, ended: str) -> Sight | None:
        present = self.read(entry.id)
        return (present["state"], {}) if present else ("lost", {"problem": "somebody took it"})

    def quarantine(self, entry: Entry) -> Sight | None:
        self._write(entry.id, state="frozen")
        return "frozen", {}

    def release(self, entry: Entry) -> Sight | None:
        self._write(entry.id, state=entry.wanted)
        return entry.wanted, {}

    def strangers(self) -> Iterator[str]:
        return (file.stem for file in self.directory.iterdir())

    def interrupt(self, entry: Entry, grace: float) -> Sight | None:
        if self.read(entry.id).get("state") != "there":
            return None
        self._write(entry.id, state="asleep", interrupted=True)
        return "asleep", {"cause": "reboot"}

    def is_interrupted(self, entry: Entry) -> bool:
        return entry.wanted == "there" and bool(self.read(entry.id).get("interrupted"))

    def revive(self, entry: Entry, work: Work) -> Sight:
        self._write(entry.id, state="there")
        return "there", {}

    def stand_down(self, entry: Entry) -> None:
        if self.read(entry.id):
            self._write(entry.id, interrupted=False)

    def capabilities(self) -> dict[str, Any]:
        return {"things": ["small"]}

    def disk_bytes(self) -> int:
        return sum(int(self.read(file.stem)["size"]) << 30 for file in self.directory.iterdir())

    def uses_file(self, entry: Entry, sha256: str) -> bool:
        return entry.spec.get("file") == sha256

    # What tests ask

    def file(self, thing_id: str) -> Path:
        return self.directory / f"{thing_id}.json"

    def read(self, thing_id: str) -> dict[str, Any]:
        """{"state", "size", "made": how often it was made, "interrupted"}; empty when there is none."""
        file = self.file(thing_id)
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def _write(self, thing_id: str, **changes: Any) -> None:
        new = self.file(thing_id).with_suffix(".new")
        new.write_text(json.dumps(self.read(thing_id) | changes))
        new.replace(self.file(thing_id))


class ThingHost(Host):
    """A host on which nothing but things can live."""

    def __init__(self, url: str, home: Path) -> None:
        paths = Paths(home / "agent", home / "run")
        paths.make()
        tools = Tools(paths, Ledger(paths.ledger), ControlPlane(url))
        self.things = Things(tools)
        tools.add(self.things)
        super().__init__(tools)
        self.url, self.directory = url, home

    def look_once(self) -> None:
        """All that a worker's clock does, once."""
        self.notice_all(thoroughly=True)
        self.send_reports()
        self.look()
        self.send_reports()
        self.revive()
        self.send_reports()

    def restart(self) -> "ThingHost":
        """The worker was killed; this is the next one."""
        self.ledger.close()
        after = ThingHost(self.url, self.directory)
        after.quarantine_strangers()
        return after

    def entry(self, thing_id: str) -> Entry:
        entry = self.ledger.get(Key(TYPE, thing_id))
        assert entry is not None
        return entry
