"""What can be wrong with networks."""

from cloud.hosts.hosted import BROKEN
from cloud.operations.troubles import MOST_SHOWN, Case, Looked, trouble
from network.models import NetworkOnHost, RouterOnHost


@trouble(
    "Networks and routers that a host cannot make",
    "It tries again every minute. Its words say what it lacks; “pileus-agent capabilities” there says what to do.",
)
def broken_networks() -> Looked:
    count, cases = 0, list[Case]()
    for model, kind in ((NetworkOnHost, "network"), (RouterOnHost, "router")):
        broken = model.objects.filter(wanted=True, seen=BROKEN).select_related(kind, "host")
        count += broken.count()
        for row in broken.order_by("seen_at")[: MOST_SHOWN - len(cases)]:
            subject, words = getattr(row, kind), f"{row.host}: {row.seen_problem or 'no reason is known'}"
            cases.append(Case(kind, str(subject.pk), subject.name, words, row.seen_at, subject.project.name))
    return count, cases
