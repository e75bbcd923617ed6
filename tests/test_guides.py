"""The guides in docs/ name files that exist, and decisions have numbers of their own."""

import re
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[1]
GUIDES = sorted((TREE / "docs").glob("adding-*.md"))
NAMED = re.compile(r"(?<![\w/<>.-])(?:agent|cloud|compute|docs|network|storage|tests)/[\w/.-]+\w")
EXAMPLES = re.compile(r"rebuild")  # the verb that one guide adds


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_every_file_that_a_guide_names_is_there(guide):
    named = {name for name in NAMED.findall(guide.read_text()) if not EXAMPLES.search(name)}
    assert named
    assert {name for name in named if not is_there(name)} == set()


def is_there(name: str) -> bool:
    """Modules are named without their ending, templates as Django names them."""
    app = name.split("/", maxsplit=1)[0]
    places = (TREE / name, TREE / f"{name}.py", TREE / app / "templates" / name)
    return any(place.exists() for place in places)


def test_decisions_are_numbered_one_after_the_other():
    decisions = sorted((TREE / "docs" / "decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    assert [path.read_text().split(".")[0] for path in decisions] == [f"# {int(path.name[:4])}" for path in decisions]
