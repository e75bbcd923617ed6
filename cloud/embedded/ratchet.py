"""Test coverage may only rise: `fail_under` in pyproject.toml is the number, and this tells when it can be raised.

Only what runs in the tests' own processes is measured (`tool.coverage` names it): with the C tracer that costs some 5 %
of their processor time.
"""

import subprocess
import sys
import tomllib

from cloud.embedded.paths import TREE

SLACK = 0.5  # percent that coverage rises before anybody is asked to note it: some lines depend on timing
ARGUMENTS = ("--cov", "--cov-report=", "--cov-config", str(TREE / "pyproject.toml"))


def floor() -> float:
    """The least coverage in percent, as the repository says."""
    return float(tomllib.loads((TREE / "pyproject.toml").read_text())["tool"]["coverage"]["report"]["fail_under"])


def advice(covered: float, least: float) -> str:
    """What to do about the coverage just measured; nothing where it is about the least."""
    if covered < least:
        return (
            f"tests cover {covered:.1f} % of the lines, and {least:.1f} % is the least. "
            "Test what is new; `./pileus test … --cov --cov-report=term-missing` names the lines."
        )
    if covered >= least + SLACK:
        return f"tests cover {covered:.1f} % of the lines: set fail_under = {covered - 0.1:.1f} in pyproject.toml."
    return ""


def measured(env: dict[str, str]) -> float:
    """The coverage in percent that the run with this environment has written down."""
    command = [sys.executable, "-P", "-m", "coverage", "report", "--format=total", "--precision=1", "--fail-under=0"]
    return float(subprocess.check_output(command, cwd=TREE, env=env, text=True))
