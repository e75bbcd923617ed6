"""Files that say what was applied: a line with all of it, and one for each change since then."""

import json
import os
from pathlib import Path
from typing import Any

from network.agent.deltas import Difference, applied


class Files:
    """Written by this process alone. All is written again when the changes have become as long as that."""

    def __init__(self) -> None:
        self._room: dict[Path, int] = {}  # for changes, in characters

    def keep(self, file: Path, facts: dict[str, Any], difference: Difference | None) -> None:
        """`facts` are what `read` gives back; `difference`: that of their `spec` to the one that was kept last."""
        line = json.dumps({"generation": facts["generation"], "difference": difference}) + "\n"
        room = self._room.pop(file, 0) - len(line)  # if it cannot be written, all is written the next time
        if difference is not None and room >= 0:
            with file.open("a") as kept:
                kept.write(line)
        else:
            text = json.dumps(facts) + "\n"
            replace(file, text)
            room = len(text)
        self._room[file] = room

    def forget(self, file: Path) -> None:
        """It is gone."""
        self._room.pop(file, None)


def read(file: Path) -> dict[str, Any]:
    """What was kept last. A line that a killed process has not finished was not applied as far as anybody was told."""
    first, *changes = file.read_text().splitlines(keepends=True)
    facts: dict[str, Any] = json.loads(first)
    for line in changes:
        if line.endswith("\n"):
            change = json.loads(line)
            facts |= {"generation": change["generation"], "spec": applied(facts["spec"], change["difference"])}
    return facts


def replace(file: Path, text: str) -> None:
    """Write a file anew; whoever reads it meanwhile finds the old text or the new one."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    os.replace(new, file)
