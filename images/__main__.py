"""`python -m images build NAME --output DIR`, `python -m images list`, `python -m images tools`."""

import argparse
import sys
import time
from pathlib import Path

from . import build, tools
from .architectures import ARCHITECTURES


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m images", description="Builds guest images from Debian packages.")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("build", help="build an image, unless it is built already")
    making.add_argument("name", choices=sorted(build.RECIPES))
    making.add_argument("--architecture", choices=sorted(ARCHITECTURES), default=build.USUAL_ARCHITECTURE)
    making.add_argument("--output", type=Path, required=True, help="directory for image.json and its files")
    making.add_argument("--cache", type=Path, default=build.default_cache(), help="packages and indexes (%(default)s)")
    making.add_argument("--refresh", action="store_true", help="fetch the package indexes even when they are fresh")
    commands.add_parser("list", help="the recipes")
    commands.add_parser("tools", help="the Debian packages that building needs")
    chosen = parser.parse_args(arguments)
    if chosen.command == "list":
        print("\n".join(f"{name}: {recipe.description}" for name, recipe in sorted(build.RECIPES.items())))
        return 0
    if chosen.command == "tools":
        print("\n".join(sorted(set(tools.PACKAGES.values()))))
        return 0
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"images: [{time.monotonic() - started:5.1f} s] {line}", file=sys.stderr, flush=True)

    try:
        build.build(
            chosen.name, chosen.architecture, chosen.output.absolute(),
            cache=chosen.cache.absolute(), refresh=chosen.refresh, say=say,
        )  # fmt: skip
    except (tools.BuildError, OSError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
