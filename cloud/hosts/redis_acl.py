"""Each host's own Redis login, confined to its own keys. Redis may forget it: PostgreSQL keeps what restores it."""

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


def username(host: Host) -> str:
    return f"h-{host.pk}"


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
