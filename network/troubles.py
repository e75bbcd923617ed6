"""What can be wrong with networks."""

from django.db.models import Exists, OuterRef

from cloud.hosts.hosted import BROKEN
from cloud.operations.troubles import MAX_SHOWN, Case, Looked, trouble
from network.models import NetworkOnHost, RouterOnHost


@trouble(
    "Networks whose hosts do not reach each other",
    "Their instances on one host do not reach those on the other. Run the host's agent as root; give the host a "
    "default route, or say in PILEUS_VTEP which of its addresses the other hosts reach. Or have all on one host.",
)
def lonely_networks() -> Looked:
    others = NetworkOnHost.objects.filter(network=OuterRef("network"), wanted=True).exclude(host=OuterRef("host"))
    lonely = NetworkOnHost.objects.filter(Exists(others), wanted=True, vtep="").select_related("network__project")
    cases = []
    for row in lonely.select_related("host").order_by("pk")[:MAX_SHOWN]:
        assert row.host is not None
        why = row.host.capabilities.get("network", {}).get("tunnels") or "it does not say where its tunnels end"
        words = f"{row.host}: {why}"
        cases.append(Case("network", str(row.network_id), row.network.name, words, None, row.network.project.name))
    return lonely.count(), cases


@trouble(
    "Networks and routers that a host cannot make",
    "It tries again every minute. Its words say what it lacks; “pileus-agent capabilities” there says what to do.",
)
def broken_networks() -> Looked:
    count, cases = 0, list[Case]()
    for model, kind in ((NetworkOnHost, "network"), (RouterOnHost, "router")):
        broken = model.objects.filter(wanted=True, seen=BROKEN).select_related(kind, "host")
        count += broken.count()
        for row in broken.order_by("seen_at")[: MAX_SHOWN - len(cases)]:
            subject, words = getattr(row, kind), f"{row.host}: {row.seen_problem or 'no reason is known'}"
            cases.append(Case(kind, str(subject.pk), subject.name, words, row.seen_at, subject.project.name))
    return count, cases
