"""Whether what is wanted of networks is true already, in words. Until a host carries networks, nothing is."""

from cloud.hosts.models import Host

STATUSES = ("ready", "waiting")
NO_HOST = "No host of this cloud carries networks yet."


def status() -> tuple[str, str]:
    """The status of everything that hosts have to make true, and the reason when it is not."""
    carries = Host.objects.filter(capabilities__networks__isnull=False).exists()
    return ("ready", "") if carries else ("waiting", NO_HOST)
