"""What people read is plain English: phrases that once puzzled readers do not come back."""

import re
from pathlib import Path

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
    for path in (path for app in ("cloud", "compute", "storage", "network") for path in (TREE / app).rglob("*")):
        if path.suffix in (".html", ".py", ".js"):
            text = re.sub(r'"""[\s\S]*?"""|#[^\n]*|/\*[\s\S]*?\*/', "", path.read_text())
            found += [f"{path.relative_to(TREE)}: {phrase}" for phrase in BANNED if phrase in text]
    assert not found
