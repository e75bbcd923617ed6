"""`./pileus lock`: the lock files, made anew from pyproject.toml with every hash, for any platform."""

import subprocess
import sys
import tempfile

from cloud.embedded.paths import TREE

UV = "uv==0.13.9"
EXTRAS = {
    "requirements.lock": ("control", "agent", "embedded"),
    "requirements-control.lock": ("control",),
    "requirements-agent.lock": ("agent",),
    "requirements-dev.lock": ("control", "agent", "embedded", "dev"),
}


def lock() -> int:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", folder, UV], check=True)
        for file, extras in EXTRAS.items():
            command = [
                f"{folder}/bin/uv",
                "pip",
                "compile",
                "pyproject.toml",
                "--output-file",
                file,
                "--quiet",
                "--no-config",
            ]
            command += [
                "--universal",
                "--python-version",
                "3.11",
                "--generate-hashes",
                "--custom-compile-command",
                "./pileus lock",
            ]
            command += ["--index-url", "https://pypi.org/simple", "--no-emit-index-url"]
            command += [word for extra in extras for word in ("--extra", extra)]
            # Every environment has the same versions: the smaller ones are subsets of the first.
            command += [] if file == "requirements.lock" else ["--constraint", "requirements.lock"]
            subprocess.run(command, cwd=TREE, check=True)
            print(f"  {file}")
    return 0
