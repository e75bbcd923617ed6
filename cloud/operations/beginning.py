"""Work begins in one statement: nothing is begun beside what is live, which is the unique constraint's to say, and no
savepoint is needed for it to say so.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import UUIDField
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now

from cloud.events.services import Actor
from cloud.operations.models import Operation
from cloud.operations.workflow import Workflow
from cloud.saving import insert

# The owner is the user whose work on the subject was the first: the oldest operation that is kept knows who that was.
OWNER = """coalesce((
    SELECT coalesce(owner_id, requested_by_id) FROM operations_operation
    WHERE subject_type = %s AND subject_id = %s ORDER BY started_at LIMIT 1
), %s::uuid)"""
LIVE = "(subject_type, subject_id) WHERE finished_at IS NULL"


def begin_unless_busy(
    workflow: type[Workflow],
    subject: models.Model,
    *,
    actor: Actor,
    project_id: UUID | None,
    step: str,
    parameters: Mapping[str, Any] | None,
) -> Operation | None:
    """The operation that is live from now on; None when another one is. For arguments see `engine.start`."""
    owner = (workflow.subject_type, subject.pk, actor.user_id)
    operation = Operation(
        kind=workflow.kind,
        subject_type=workflow.subject_type,
        subject_id=subject.pk,
        subject_name=str(subject)[:63],
        project_id=project_id or getattr(subject, "project_id", None),
        parameters=dict(parameters or {}),
        step=step or workflow.first,
        deadline_at=Now() + workflow.patience,
        requested_by=actor.name,
        requested_by_id=actor.user_id,
        request_id=actor.request_id,
    )
    operation.owner_id = RawSQL(OWNER, owner, output_field=UUIDField())  # type: ignore[assignment]
    return operation if insert(operation, unless=LIVE) else None
