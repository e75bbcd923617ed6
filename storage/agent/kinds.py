"""The kinds of storage on a host."""

from agent.kinds import Kind, Tools
from storage.agent.images import Images
from storage.agent.transfers import Transfers
from storage.agent.volumes import Volumes


def kinds(tools: Tools) -> list[Kind]:
    return [Images(tools), Volumes(tools), Transfers(tools)]
