"""`./pileus check`: what a reviewer should not have to say. All of it runs, then all failures are shown."""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloud.embedded.paths import TREE, Home
from cloud.embedded.screen import Screen

SCHEMA_LINT = """
import sys, yaml
from openapi_spec_validator import validate
validate(yaml.safe_load(open(sys.argv[1])))
"""


def commands(scratch: Path) -> dict[str, list[list[str]]]:
    """Each check by name: commands run one after the other; the first that fails ends it."""
    schema = str(scratch / "schema.yaml")
    manage = [sys.executable, "manage.py"]
    return {
        "ruff: rules": [["ruff", "check", "."]],
        "ruff: format": [["ruff", "format", "--check", "."]],
        "templates": [["djlint", "--lint", "--quiet", "."]],
        "import contracts": [["lint-imports", "--no-cache"]],
        "migrations are complete": [[*manage, "makemigrations", "--check", "--dry-run"]],
        "OpenAPI": [
            [*manage, "spectacular", "--validate", "--fail-on-warn", "--file", schema],
            [sys.executable, "-c", SCHEMA_LINT, schema],
        ],
        "mypy": [["mypy", "."]],
    }


def check(home: Home) -> int:
    """Runs every check; gives back how many failed."""
    failures: dict[str, str] = {}
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "cloud.settings", "PILEUS_SECRET_KEY": "of-no-use"}
    # The checks read models and never a row: a database that is not there must not be asked.
    env["DATABASE_URL"] = "postgresql://nobody@/none?host=/nonexistent"
    with tempfile.TemporaryDirectory() as folder, Screen() as screen, ThreadPoolExecutor(os.cpu_count() or 2) as pool:

        def run(name: str, steps: list[list[str]]) -> None:
            with screen.step(name) as step:
                for command in steps:
                    done = subprocess.run(
                        command,
                        cwd=TREE,
                        env=env,
                        text=True,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        check=False,
                    )
                    if done.returncode != 0:
                        failures[name] = done.stdout.strip()
                        step.result = "failed"
                        return
                step.result = "good"

        for future in [pool.submit(run, name, steps) for name, steps in commands(Path(folder)).items()]:
            future.result()
    for name, output in failures.items():
        print(f"\n{name}\n{output}", file=sys.stderr)
    return len(failures)
