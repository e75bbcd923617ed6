"""What people read is plain English: phrases that once puzzled readers do not come back, each event has its verb."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from cloud.pages import words

APPS = ("cloud", "compute", "storage", "network")
TREE = Path(__file__).resolve().parents[1]
BANNED = (
    "Keep it as it is",
    "Leave it<",
    "Leave them as they are",
    "In trouble<",
    "What is wrong<",
    "All of it<",
    "All of them<",
    "private half",
    "One a line",
    "can put this right",
    "To the start",
    "no such thing here",
    "it cannot drift",
    "by the clock from",
    "codes by the clock",
    "opens the API",
    "Lives for",
    "Make it<",
    "Take back<",
    "Look inside",
    "vCPUs sold",
    "Memory placed",
    "Its heartbeats arrive",
    "Promises that hold",
    "Looked at {",
    "What it can run",
    "What holds its emulators",
    "was not let in",
    "backwards",
)


def test_no_banned_phrase_is_shown():
    found = []
    for path in (path for app in APPS for path in (TREE / app).rglob("*")):
        if path.suffix in (".html", ".py", ".js"):
            text = re.sub(r'"""[\s\S]*?"""|#[^\n]*|/\*[\s\S]*?\*/', "", path.read_text())
            found += [f"{path.relative_to(TREE)}: {phrase}" for phrase in BANNED if phrase in text]
    assert not found


def test_each_event_is_told_in_the_past_tense():
    assert {action for action in recorded() if not is_told(action)} == set()


def recorded() -> Iterator[str]:
    """Actions that the code writes into the log of events, as far as they are plain text where they are written."""
    for path in (path for app in APPS for path in (TREE / app).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "record":
                said = re.fullmatch(r"f?'([^']*\.[a-z_-]+)'", ast.unparse(node.args[0]) if node.args else "")
                yield from said.groups() if said else ()


def is_told(action: str) -> bool:
    verb = action.rpartition(".")[2]
    return action in words.SENTENCES or action in words.VERBS or verb in words.VERBS
