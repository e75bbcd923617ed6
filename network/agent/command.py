"""`pileus-agent network`."""

from agent.paths import Paths

NAME = "network"
HELP = "make networks on this host; runs until it is stopped, and what it made stays"


def run(paths: Paths) -> int:
    """Run until it is stopped; the exit status."""
    from network.agent import process

    return process.run(paths)
