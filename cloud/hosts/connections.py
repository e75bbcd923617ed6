"""How many connections to Redis one host may have: the server's own limit is for all, and one could fill it."""

from django.db import transaction

from cloud.events.services import SYSTEM, record
from cloud.hosts import redis_acl
from cloud.hosts.models import Host

TOO_MANY = f"Its Redis login opened more than {redis_acl.MAX_CONNECTIONS} connections, and was hung up on."


def limit() -> None:
    """Hang up on who has too many; a host that has is quarantined. Raises redis.RedisError."""
    for host_id in redis_acl.hang_up_on_many():
        _quarantine(host_id)


@transaction.atomic
def _quarantine(host_id: str) -> None:
    host = Host.objects.select_for_update().filter(pk=host_id, quarantined="").first()
    if host is not None:  # otherwise it is removed, or in quarantine already
        host.quarantined = TOO_MANY
        host.save(update_fields=["quarantined"])
        record("hosts.host.update", host, actor=SYSTEM, before={"quarantined": ""}, after={"quarantined": TOO_MANY})
