"""What is excepted from the rules in pyproject.toml has to be: lists of exceptions only shrink.

Other lists of files name none that has gone.
"""

import json
import subprocess
import tomllib

from cloud.embedded.paths import TREE
from tests.scheduling import TOGETHER

RULE = "PLC0415"  # imports inside functions
APPS = ("agent", "cloud", "compute", "images", "network", "storage")


def excepted() -> set[str]:
    """Files that may import inside functions."""
    lint = tomllib.loads((TREE / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    return {path for path, rules in lint["per-file-ignores"].items() if RULE in rules and not path.endswith("*")}


def found() -> set[str]:
    """Files that do."""
    command = ["ruff", "check", "--isolated", "--select", RULE, "--output-format", "json", *APPS]
    done = subprocess.run(command, cwd=TREE, check=False, capture_output=True, text=True)
    return {complaint["filename"].removeprefix(f"{TREE}/") for complaint in json.loads(done.stdout)}


def test_every_exception_for_imports_inside_functions_is_needed():
    assert excepted() == found()


def test_tests_that_stay_together_are_there():
    assert all((TREE / file).exists() for file in TOGETHER)
