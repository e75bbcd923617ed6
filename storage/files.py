"""Files that hosts fetch, named by their SHA-256. A host gets only what something that is placed on it is made of."""

from collections.abc import Callable

from cloud.hosts.models import Host

_users: list[Callable[[Host, str], bool]] = []


def register(needs: Callable[[Host, str], bool]) -> None:
    """An app's say: whether something of it that is placed on this host is made of the file with this SHA-256."""
    _users.append(needs)


def may_fetch(host: Host, sha256: str) -> bool:
    return any(needs(host, sha256) for needs in _users)
