"""What can be wrong with hosts."""

from typing import Any

from django.db.models import F, Q

from cloud.hosts import lost
from cloud.hosts.models import Host, HostPulse, Order
from cloud.hosts.silence import reachable_since
from cloud.operations.troubles import MAX_SHOWN, Case, Looked, trouble


@trouble(
    "Nothing can be launched: no host takes new instances",
    "Running instances go on. Enable a host, repair one, or add one (Cloud → Hosts): new instances are placed on hosts "
    "that are online and not cordoned.",
)
def no_host_in_service() -> Looked:
    """Every host, with what keeps it from taking instances; nothing as long as one takes them."""
    hosts = list(
        Host.objects.annotate(is_online=Q(pulse__seen_at__gte=reachable_since()), seen_at=F("pulse__seen_at"))
        .only("id", "name", "enabled", "quarantined", "lost_at")
        .order_by("name")
    )
    if any(host.enabled and host.is_online and not host.quarantined for host in hosts):
        return 0, []
    if not hosts:
        return 1, [Case("cloud", "", "No hosts", "No machine has joined this cloud yet.", None)]
    found = [Case("host", str(host.pk), host.name, _why_not(host), None) for host in hosts]
    return len(found), found[:MAX_SHOWN]


def _why_not(host: Any) -> str:
    if host.lost_at:
        return "Declared lost"
    if not host.is_online:
        return "Unreachable"
    return f"Quarantined: {host.quarantined}" if host.quarantined else "Cordoned by an admin"


@trouble(
    "Unreachable hosts",
    "Look at the machine and its network, and whether its worker (pileus-agent worker) runs. "
    "Its instances may still be running: they are not started elsewhere. When the machine is gone for good, declare it "
    "lost on its page.",
)
def unreachable_hosts() -> Looked:
    silent = Host.objects.filter(pulse__seen_at__lt=reachable_since(), lost_at=None).annotate(
        seen_at=F("pulse__seen_at")
    )
    found = [
        Case("host", str(host.pk), host.name, "No heartbeat", host.seen_at) for host in silent.order_by("seen_at", "id")
    ]
    return len(found), found[:MAX_SHOWN]


@trouble(
    "Lost hosts that still have something",
    "It goes on elsewhere as soon as another host has room and reaches the shared folder or the Ceph pool: make room, "
    "or delete it. What no host will reach again you give up on the page of the host. Then remove the host.",
)
def lost_hosts_that_have_something() -> Looked:
    found = []
    for host in Host.objects.exclude(lost_at=None).order_by("name"):
        if waiting := [stake for stake in lost.at_stake(host) if stake.fate == "taken_over"]:
            first = f"{waiting[0].type} {waiting[0].name} of {waiting[0].project}"
            more = f", and {len(waiting) - 1} more" if waiting[1:] else ""
            found.append(Case("host", str(host.pk), host.name, f"{first}{more}", host.lost_at))
    return len(found), found[:MAX_SHOWN]


@trouble(
    "Quarantined hosts",
    "Nothing new is placed there. Find out what is behind this reason; enabling the host ends the quarantine.",
)
def quarantined_hosts() -> Looked:
    found = [
        Case("host", str(host.pk), host.name, host.quarantined, None)
        for host in Host.objects.exclude(quarantined="").only("id", "name", "quarantined").order_by("name")
    ]
    return len(found), found[:MAX_SHOWN]


def told_of(what: str) -> Looked:
    """The hosts that are heard from and tell of such problems, each with the first of its own."""
    telling = HostPulse.objects.filter(problems__contains=[{"what": what}], seen_at__gte=reachable_since())
    found = []
    for pulse in telling.select_related("host").defer("inventory").order_by("host__name"):
        problems = [problem for problem in pulse.problems if problem["what"] == what]
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        found.append(Case("host", str(pulse.pk), pulse.host.name, f"{problems[0]['problem']}{more}", None))
    return len(found), found[:MAX_SHOWN]


@trouble(
    "Hosts that do not get notifications",
    "They ask every few seconds instead, so everything on them is slower. Check that they reach the broker at the "
    "address in PILEUS_HOST_REDIS_URL.",
)
def deaf_hosts() -> Looked:
    return told_of("bells")


@trouble(
    "Hosts with a full disk",
    "Running instances go on, but every change on the host fails. Make room on the disk of the agent's home folder; "
    "the host then continues by itself. Cordon it until then, so that nothing new is placed there.",
)
def full_hosts() -> Looked:
    return told_of("disk")


@trouble(
    "Reports that were refused",
    "The host and the control plane have different versions. Bring both to the same version; the host then reports "
    "again by itself.",
)
def refused_reports() -> Looked:
    return told_of("report")


@trouble(
    "Orders that cannot be given to their hosts",
    "The control plane fails to write what they ask for. The log of web has the details (order.not_rendered). Each is "
    "tried again every minute; other orders are not held up.",
)
def orders_without_a_spec() -> Looked:
    failing = Order.objects.filter(answered_at=None).exclude(problem="")
    found = [
        Case("host", str(order.host_id), order.host.name, _about(order), order.posted_at)
        for order in failing.select_related("host").order_by("posted_at", "pk")[: MAX_SHOWN + 1]
    ]
    return len(found) if len(found) <= MAX_SHOWN else failing.count(), found[:MAX_SHOWN]


def _about(order: Order) -> str:
    return f"{order.verb} of {order.resource_type} {order.resource_id}: {order.problem}"


@trouble(
    "Hosts whose agent restarts again and again",
    "Its log says why it ends: ./pileus logs host node network, or your supervisor's log. Running instances go on, "
    "but orders take longer. The alert ends an hour after the last restart.",
)
def restarting_hosts() -> Looked:
    return told_of("restarts")


@trouble(
    "Overcommitted hosts", "They have less capacity than is allocated on them. Add capacity, or delete some instances."
)
def overcommitted_hosts() -> Looked:
    below = Host.objects.filter(Q(free_vcpus__lt=0) | Q(free_memory_mib__lt=0) | Q(free_disk_gib__lt=0))
    found = [
        Case("host", str(host.pk), host.name, ", ".join(lacks(host)), None)
        for host in below.only("id", "name", "free_vcpus", "free_memory_mib", "free_disk_gib").order_by("name")
    ]
    return len(found), found[:MAX_SHOWN]


def lacks(host: Host) -> list[str]:
    free = ((host.free_vcpus, "vCPUs"), (host.free_memory_mib, "MiB of memory"), (host.free_disk_gib, "GiB of disk"))
    return [f"{-amount} {kind} too many allocated" for amount, kind in free if amount < 0]
