"""Coverage may only rise."""

import subprocess
import sys

import pytest

from cloud.embedded import ratchet


@pytest.mark.parametrize(
    ("covered", "words"),
    [
        (79.9, "tests cover 79.9 % of the lines, and 80.0 % is the least"),
        (80.0, ""),
        (80.4, ""),
        (80.5, "set fail_under = 80.4 in pyproject.toml"),
    ],
)
def test_it_is_said_what_to_do(covered, words):
    said = ratchet.advice(covered, 80.0)
    assert (words in said) if words else (said == "")


def test_the_repository_has_a_floor():
    assert 50 < ratchet.floor() <= 100


@pytest.mark.parametrize(("least", "code"), [(50, 0), (80, 1)])
def test_a_run_that_covers_less_fails(tmp_path, least, code):
    (tmp_path / "halves.py").write_text("def whole(x):\n    if x:\n        return 1\n    return 2\n")
    (tmp_path / "test_halves.py").write_text("from halves import whole\n\ndef test_it():\n    assert whole(1)\n")
    settings = f"[run]\nsource = halves\n[report]\nfail_under = {least}\n"
    (tmp_path / "settings.ini").write_text(settings)
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    command += [*ratchet.ARGUMENTS[:2], "--cov-config", "settings.ini", "-c", "/dev/null", "test_halves.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=False, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
