"""What compute's part of the node service answers."""

from agent.node_service import Server
from agent.paths import Paths
from compute.agent.consoles import WHAT, Consoles


def servers(paths: Paths) -> dict[str, Server]:
    """By what the control plane asks for."""
    return dict.fromkeys(WHAT, Consoles(paths))
