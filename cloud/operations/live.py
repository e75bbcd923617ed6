"""What is under way with a row, told in the query that reads it."""

from django.db.models import Case, CharField, JSONField, OuterRef, QuerySet, Subquery, TextField, Value, When
from django.db.models.functions import Cast, Coalesce, JSONObject

from cloud.operations.models import Operation


def live_operation(subject_type: str) -> Subquery:
    """To annotate rows of that type with: the live operation as the API shows it, or null."""
    return Subquery(_live(subject_type).values(json=operation_json())[:1], output_field=JSONField())


def live_kind(subject_type: str) -> Subquery:
    """The same with nothing but its kind."""
    return Subquery(_live(subject_type).values("kind")[:1], output_field=CharField())


def last_fix_by(subject_type: str) -> Coalesce:
    """To annotate rows of that type with: who can do something about the latest work on each; "" unless it failed."""
    latest = Operation.objects.filter(subject_type=subject_type, subject_id=OuterRef("pk")).order_by("-started_at")
    return Coalesce(Subquery(latest.values("fix_by")[:1], output_field=CharField()), Value(""))


def _live(subject_type: str) -> "QuerySet[Operation]":
    return Operation.objects.filter(subject_type=subject_type, subject_id=OuterRef("pk"), finished_at=None)


def operation_json() -> JSONObject:
    """An operation as the API shows it, made by PostgreSQL."""
    return JSONObject(
        id="id",
        kind="kind",
        subject=JSONObject(type="subject_type", id="subject_id", name="subject_name"),
        step="step",
        progress=Case(
            When(progress_of=None, then=Value(None, JSONField())),
            default=JSONObject(done="progress_done", of="progress_of", unit="progress_unit"),
            output_field=JSONField(),
        ),
        reason="reason",
        outcome=_text_or_null("outcome"),
        fix_by=_text_or_null("fix_by"),
        cancel_requested_at="cancel_requested_at",
        started_at="started_at",
        finished_at="finished_at",
        requested_by="requested_by",
    )


def _text_or_null(column: str) -> Case:
    return Case(
        When(**{column: ""}, then=Value(None, TextField())),
        default=Cast(column, TextField()),
        output_field=TextField(),
    )
