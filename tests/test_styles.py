"""A class that a template gives has a style: in the shared style sheets, or in those of its own app."""

import re
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
SHARED = "pages"  # the app whose style sheets every page has


def styled() -> dict[str, set[str]]:
    """The classes of each app's style sheets."""
    found: dict[str, set[str]] = {}
    for sheet in TREE.glob("**/static/*/*.css"):
        words = re.sub(r"/\*.*?\*/", "", sheet.read_text(), flags=re.DOTALL)
        found.setdefault(sheet.parent.name, set()).update(re.findall(r"\.([a-zA-Z][\w-]*)", words))
    return found


def test_every_class_of_a_template_has_a_style():
    known = styled()
    assert "card" in known[SHARED]
    missing = []
    for template in TREE.glob("**/templates/*/**/*.html"):
        app = template.relative_to(TREE).as_posix().partition("/templates/")[2].partition("/")[0]
        plain = re.sub(r"{%.*?%}|{{.*?}}", "\0", template.read_text(), flags=re.DOTALL)
        for value in re.findall(r'class="([^"]*)"', plain):
            given = {word for word in value.split() if "\0" not in word}  # what a tag writes is not known here
            missing += [f"{template.name}: {word}" for word in given - known[SHARED] - known.get(app, set())]
    assert not missing, f"no style sheet of the page has these classes: {sorted(missing)}"
