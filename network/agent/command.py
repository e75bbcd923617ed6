"""`pileus-agent network`."""

import argparse

from agent.paths import Paths

NAME = "network"
HELP = "make networks on this host; runs until it is stopped, and what it made stays"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--remove", action="store_true", help="remove everything that it made, and end")


def run(paths: Paths, options: argparse.Namespace) -> int:
    """Run until it is stopped; the exit status."""
    from network.agent import process

    if options.remove:
        process.remove_all(paths)
        return 0
    return process.run(paths)
