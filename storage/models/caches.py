"""Image files in the caches of hosts: which have one, which are fetching it, and what was wrong with one."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from cloud.hosts.models import Host


class CachedFile(models.Model):
    """A file of the store in the cache of one host. Hosts say what they have; nothing else depends on it.

    `came_from`: the host that sent it, or is sending it; null: the store, or nobody knows. `problem`: why another host
    did not get it from this one, since `problem_at`; `is_wrong`: other bytes came.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        FETCHING = "fetching"
        HERE = "here"

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="cached_files")
    sha256 = models.CharField(max_length=64)
    size = models.PositiveBigIntegerField()
    state = models.CharField(max_length=8, choices=State.choices)
    came_from = models.ForeignKey(Host, on_delete=models.SET_NULL, null=True, related_name="+")
    received = models.PositiveBigIntegerField(default=0)  # bytes, while it is fetched
    since = models.DateTimeField(db_default=Now())  # of the state; of a fetch: since the host began to wait
    heard_at = models.DateTimeField(db_default=Now())  # the last sign of a host that waits or fetches
    problem = models.CharField(max_length=200, blank=True)
    problem_at = models.DateTimeField(null=True)
    is_wrong = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["host", "sha256"], name="cached_file_is_once_on_a_host"),
            models.CheckConstraint(
                condition=Q(state__in=["waiting", "fetching", "here"]), name="cached_file_state_is_known"
            ),
            models.CheckConstraint(
                condition=Q(is_wrong=False) | Q(problem_at__isnull=False), name="wrong_cached_file_has_a_moment"
            ),
        ]
        indexes = [
            models.Index(fields=["sha256", "state"], name="cached_file_by_sum"),
            models.Index(fields=["problem_at"], condition=Q(problem_at__isnull=False), name="cached_file_with_problem"),
        ]

    def __str__(self) -> str:
        return f"{self.sha256[:12]}… on {self.host}"
