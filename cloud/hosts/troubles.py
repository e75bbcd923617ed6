"""What can be wrong with hosts."""

from django.db.models import F, Q

from cloud.hosts.models import Host
from cloud.hosts.silence import reachable_since
from cloud.operations.troubles import MOST_SHOWN, Case, Looked, trouble


@trouble(
    "Unreachable hosts",
    "Look at the machine and its network, and whether its worker (pileus-agent worker) runs. "
    "Its instances may well run on; nothing is started elsewhere.",
)
def unreachable_hosts() -> Looked:
    silent = Host.objects.filter(pulse__seen_at__lt=reachable_since()).annotate(seen_at=F("pulse__seen_at"))
    found = [
        Case("host", str(host.pk), host.name, "No heartbeat", host.seen_at) for host in silent.order_by("seen_at", "id")
    ]
    return len(found), found[:MOST_SHOWN]


@trouble(
    "Quarantined hosts",
    "Find out which is right, the database or the host's ledger; enabling the host lifts the quarantine.",
)
def quarantined_hosts() -> Looked:
    found = [
        Case("host", str(host.pk), host.name, host.quarantined, None)
        for host in Host.objects.exclude(quarantined="").only("id", "name", "quarantined").order_by("name")
    ]
    return len(found), found[:MOST_SHOWN]


@trouble("Overcommitted hosts", "They have shrunk below what is placed on them. Give them more, or delete some of it.")
def overcommitted_hosts() -> Looked:
    below = Host.objects.filter(Q(free_vcpus__lt=0) | Q(free_memory_mib__lt=0) | Q(free_disk_gib__lt=0))
    found = [
        Case("host", str(host.pk), host.name, ", ".join(lacks(host)), None)
        for host in below.only("id", "name", "free_vcpus", "free_memory_mib", "free_disk_gib").order_by("name")
    ]
    return len(found), found[:MOST_SHOWN]


def lacks(host: Host) -> list[str]:
    free = ((host.free_vcpus, "vCPUs"), (host.free_memory_mib, "MiB of memory"), (host.free_disk_gib, "GiB of disk"))
    return [f"{-amount} {kind} too many are placed" for amount, kind in free if amount < 0]
