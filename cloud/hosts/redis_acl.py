"""Each host's own Redis login, confined to its own keys. Redis may forget it: PostgreSQL keeps what restores it."""

import functools
from collections import Counter

import redis
import structlog
from django.conf import settings

from cloud.hosts.models import Host
from cloud.hosts.orders import key_prefix

log = structlog.get_logger(__name__)

# What a Celery consumer needs that only listens (agent/listening.py). No command here writes anything, runs a script,
# reads outside the host's own keys, lists keys, or touches other clients.
COMMANDS = (
    "-@all +brpop +llen +multi +exec +discard +ping +client|setname +client|setinfo +client|id +auth +hello +info"
).split()

PREFIX = "h-"
STRANGER = "default"  # whom Redis takes those for who have not logged in
MAX_CONNECTIONS = 50  # of one host, whose worker has some five; and of all who have not logged in


def username(host: Host) -> str:
    return f"{PREFIX}{host.pk}"


def allow(*hosts: Host) -> None:
    """Make Redis know these hosts' logins. Raises redis.RedisError; the reconciler tries again."""
    connection = redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=0.5, socket_timeout=5)
    with connection, connection.pipeline(transaction=False) as pipeline:
        for host in hosts:
            pipeline.execute_command(
                "ACL", "SETUSER", username(host), "reset", "on", f"#{host.redis_password_digest}",
                f"~{key_prefix(host)}*", f"&{key_prefix(host)}*", *COMMANDS,
            )  # fmt: skip
        pipeline.execute()


def revoke(login: str) -> None:
    """Remove a host's login and hang up on it: by name, as the host's row may be gone."""
    with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=0.5, socket_timeout=5) as connection:
        connection.execute_command("ACL", "DELUSER", login)


def hang_up_on_many() -> list[str]:
    """Hang up on each login of a host that has more than MAX_CONNECTIONS, and on strangers when they have; gives the
    ids of the hosts. Raises redis.RedisError."""
    kept = _kept_connection(settings.REDIS_URL)
    clients = Counter(client["user"] for client in kept.client_list())
    us = kept.acl_whoami()
    many = [login for login, number in clients.items() if number > MAX_CONNECTIONS and login != us]
    many = [login for login in many if login == STRANGER or login.startswith(PREFIX)]
    for login in many:
        log.warning("redis.too_many_connections", login=login, connections=clients[login])
        kept.execute_command("CLIENT", "KILL", "USER", login)
    return [login.removeprefix(PREFIX) for login in many if login != STRANGER]


@functools.cache
def _kept_connection(url: str) -> redis.Redis:
    """Stays open: when others have taken all connections, there would be no new one."""
    return redis.Redis.from_url(url, socket_connect_timeout=0.5, socket_timeout=5, decode_responses=True)
