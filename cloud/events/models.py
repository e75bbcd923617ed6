"""The event log: what was changed, by whom, from what to what. Written with the change, never altered."""

import pgtrigger
from django.db import models
from django.db.models import BigIntegerField, F, Func, Q, Value
from django.db.models.functions import Now


class CurrentTransaction(Func):
    """The running transaction's number in the log; null before its first event."""

    template = "(nullif(current_setting('pileus.events_number', true), '')::bigint)"
    output_field = models.BigIntegerField()


class Verb(Func):
    """The last word of an action: compute.instance.stop → stop."""

    function = "split_part"
    output_field = models.CharField()

    def __init__(self, action: str = "action") -> None:
        super().__init__(F(action), Value("."), Value(3))


class Event(models.Model):
    """One change. Its cursor is (transaction, id): ids alone commit out of order.

    The log numbers its transactions by itself: docs/decisions/0018.
    """

    id = models.BigAutoField(primary_key=True)
    transaction = models.BigIntegerField(db_default=Func(function="events_next_number", output_field=BigIntegerField()))
    at = models.DateTimeField(db_default=Now())
    action = models.CharField(max_length=80)
    project_id = models.UUIDField(null=True)
    subject_type = models.CharField(max_length=40)
    subject_id = models.CharField(max_length=64)
    subject_name = models.CharField(max_length=255, blank=True)
    actor_id = models.UUIDField(null=True)
    actor = models.CharField(max_length=80)  # a user name, "host <name>", "guest", "system"
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    request_id = models.CharField(max_length=64, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["project_id", "transaction", "id"], name="event_by_project"),
            models.Index(fields=["transaction", "id"], name="event_cursor"),
            models.Index(fields=["at"], name="event_by_time"),
            # One for each thing that is searched for: however rare it is, the newest of it are found at once.
            models.Index(fields=["subject_id", "transaction", "id"], name="event_by_subject_id"),
            models.Index(fields=["subject_type", "transaction", "id"], name="event_by_subject_type"),
            models.Index(fields=["subject_name", "transaction", "id"], name="event_by_subject_name"),
            models.Index(fields=["actor", "transaction", "id"], name="event_by_actor"),
            models.Index(
                fields=["request_id", "transaction", "id"], condition=~Q(request_id=""), name="event_by_request"
            ),
            models.Index(Verb(), F("transaction"), F("id"), name="event_by_verb"),
        ]
        triggers = [
            pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete),
            pgtrigger.Trigger(
                name="notify",
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                func="PERFORM pg_notify('events', coalesce(NEW.project_id::text, '')); RETURN NULL;",
            ),
        ]


class Place(models.Model):
    """The one row that says where the last numbers were given: cloud/events/place.py."""

    cluster = models.BigIntegerField()
    timeline = models.BigIntegerField()
    table = models.BigIntegerField()
