"""The lock files: in step with pyproject.toml, with each other, and with a hash for everything."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cloud.embedded.lock import EXTRAS
from cloud.embedded.paths import TREE

PROJECT = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]


def pins(file):
    """Name → version of each entry."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (TREE / file).read_text(), re.MULTILINE))


@pytest.mark.parametrize("file", EXTRAS)
def test_a_lock_has_what_the_project_asks_for(file):
    wanted = [
        *PROJECT["dependencies"],
        *(line for extra in EXTRAS[file] for line in PROJECT["optional-dependencies"][extra]),
    ]
    pinned = pins(file)
    for line in wanted:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{file} has no {name}: run ./pileus lock"
        assert requirement.specifier.contains(pinned[name], prereleases=True), f"{name}: run ./pileus lock"


@pytest.mark.parametrize("file", EXTRAS)
def test_everything_in_a_lock_has_a_hash_and_no_index(file):
    text = (TREE / file).read_text()
    entries = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "index-url" not in text


def test_the_locks_agree_on_every_version():
    main = pins("requirements.lock")
    for file in EXTRAS:
        assert {name: version for name, version in pins(file).items() if main.get(name, version) != version} == {}
