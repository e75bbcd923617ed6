"""What can be wrong with hosts."""

from django.db.models import F, Q

from cloud.hosts.models import Host, HostPulse
from cloud.hosts.silence import reachable_since
from cloud.operations.troubles import MOST_SHOWN, Case, Looked, trouble


@trouble(
    "Unreachable hosts",
    "Look at the machine and its network, and whether its worker (pileus-agent worker) runs. "
    "What it runs may well run on; nothing is started elsewhere.",
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


def told_of(what: str) -> Looked:
    """The hosts that are heard from and tell of such problems, each with the first of its own."""
    telling = HostPulse.objects.filter(problems__contains=[{"what": what}], seen_at__gte=reachable_since())
    found = []
    for pulse in telling.select_related("host").defer("inventory").order_by("host__name"):
        problems = [problem for problem in pulse.problems if problem["what"] == what]
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        found.append(Case("host", str(pulse.pk), pulse.host.name, f"{problems[0]['problem']}{more}", None))
    return len(found), found[:MOST_SHOWN]


@trouble(
    "Hosts that do not hear their bells",
    "They look by themselves every few seconds, so everything on them is slower. Look whether they reach the broker: "
    "its address is PILEUS_HOST_REDIS_URL, and each heartbeat tells it to them.",
)
def deaf_hosts() -> Looked:
    return told_of("bells")


@trouble(
    "Hosts with a full disk",
    "What runs there runs on, and every order fails with this reason. Make room on the disk that the agent's home is "
    "on; the host goes on by itself. Drain it until then, so that nothing new is placed there.",
)
def full_hosts() -> Looked:
    return told_of("disk")


@trouble(
    "Reports that were refused",
    "The host and the control plane do not understand each other: mostly one of them is older. Bring both to the same "
    "version; the host reports again by itself.",
)
def refused_reports() -> Looked:
    return told_of("report")


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
