"""Operation: one durable piece of work on one resource."""

import uuid

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Outcome(models.TextChoices):
    """How an operation ended, or will have ended once it has cleared up."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class FixBy(models.TextChoices):
    """Who can do something about work that failed: who asked for it, an admin of the cloud, or nobody: try again."""

    YOU = "you"
    OPERATOR = "operator"
    NOBODY = "nobody"


class Operation(models.Model):
    """A row that names its next step. While it is live it is the one operation on its subject: the busy-lock."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=60)
    subject_type = models.CharField(max_length=40)
    subject_id = models.UUIDField()
    subject_name = models.CharField(max_length=63)
    project_id = models.UUIDField(null=True)
    parameters = models.JSONField(default=dict, db_default={})  # what the verb was given
    before = models.JSONField(default=dict, db_default={})  # what giving up restores
    step = models.CharField(max_length=60)
    waits_for = ArrayField(models.CharField(max_length=80), default=list, db_default=[])  # ["volume:…"], see Wait
    due_at = models.DateTimeField(db_default=Now())
    deadline_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)  # of this step, since it last returned
    reason = models.TextField(blank=True)
    progress_done = models.PositiveBigIntegerField(null=True)
    progress_of = models.PositiveBigIntegerField(null=True)
    progress_unit = models.CharField(max_length=16, blank=True)
    history = models.JSONField(default=list)  # [{"step", "at", "reason"}], the latest HISTORY_KEPT
    outcome = models.CharField(max_length=12, choices=Outcome.choices, blank=True)
    fix_by = models.CharField(max_length=10, choices=FixBy.choices, blank=True, db_default="")  # of what failed
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_requested_by = models.CharField(max_length=80, blank=True)
    requested_by_id = models.UUIDField(null=True)
    requested_by = models.CharField(max_length=80)
    owner_id = models.UUIDField(null=True)  # the user whose work on the subject was the first that is known
    request_id = models.CharField(max_length=64, blank=True)
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["subject_type", "subject_id"],
                condition=Q(finished_at__isnull=True),
                name="one_live_operation_per_resource",
            ),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=True) | ~Q(outcome=""), name="finished_operation_has_outcome"
            ),
            models.CheckConstraint(condition=Q(outcome__in=["", *Outcome.values]), name="operation_outcome_is_known"),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(finished_at__isnull=True), name="operation_due"),
            models.Index(fields=["project_id", "-started_at", "id"], name="operation_by_project"),
            models.Index(fields=["subject_id", "-started_at"], name="operation_by_subject"),
            models.Index(fields=["-finished_at"], condition=Q(outcome="failed"), name="operation_failed"),
            models.Index(fields=["requested_by_id", "-finished_at"], name="operation_by_requester"),
            models.Index(fields=["owner_id", "-finished_at"], name="operation_by_owner"),
            GinIndex(fields=["waits_for"], condition=Q(finished_at__isnull=True), name="operation_waits_for"),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="notify",
                when=pgtrigger.After,
                operation=pgtrigger.Insert | pgtrigger.Update,
                func="PERFORM pg_notify('operations', NEW.id::text); RETURN NULL;",
            ),
            # Open pages look again: at a step, a reason, some progress. The end of an operation is an event.
            pgtrigger.Trigger(
                name="hint",
                when=pgtrigger.After,
                operation=pgtrigger.Insert | pgtrigger.Update,
                func="""
                    IF TG_OP = 'INSERT' OR (NEW.step, NEW.reason, NEW.progress_done, NEW.cancel_requested_at, NEW.outcome)
                        IS DISTINCT FROM (OLD.step, OLD.reason, OLD.progress_done, OLD.cancel_requested_at, OLD.outcome)
                    THEN
                        PERFORM pg_notify('hints', json_build_object('project', NEW.project_id,
                            'type', NEW.subject_type, 'id', NEW.subject_id)::text);
                    END IF;
                    RETURN NULL;
                """,  # noqa: E501
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind}.{self.step} of {self.subject_type} {self.subject_name}"


class Check(models.Model):
    """What the latest look at one invariant found, and whether an admin has asked for it to be put right."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=120, unique=True)  # of the function that checks
    code = models.CharField(max_length=8)
    promise = models.CharField(max_length=255)
    checked_at = models.DateTimeField(db_default=Now())
    seconds = models.FloatField(default=0)
    problem = models.CharField(max_length=500, blank=True)  # why it could not be checked
    count = models.PositiveIntegerField(default=0)
    breaches = models.JSONField(default=list)  # [{"words", "subject", "since", "repairable", "advice"}], the first few
    repair_requested_at = models.DateTimeField(null=True)
    repair_requested_by = models.CharField(max_length=80, blank=True)
    repaired_at = models.DateTimeField(null=True)

    class Meta:
        triggers = [
            pgtrigger.Trigger(
                name="hint",
                when=pgtrigger.After,
                operation=pgtrigger.Insert | pgtrigger.Update,
                func="""
                    PERFORM pg_notify('hints', json_build_object('project', null, 'type', 'check', 'id', NEW.id)::text);
                    RETURN NULL;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.code}: {self.promise}"[:255]


class FailingTask(models.Model):
    """Work by the clock whose latest run failed."""

    name = models.CharField(max_length=80, primary_key=True)
    problem = models.CharField(max_length=500)
    since = models.DateTimeField(db_default=Now())
    at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.name
