"""Work begins in one statement: nothing is begun beside what is live, which is the unique constraint's to say, and no
savepoint is needed for it to say so.
"""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from django.db import models

from cloud.events.services import Actor
from cloud.operations.models import Operation
from cloud.operations.workflow import Workflow

# The owner is the user whose work on the subject was the first: the oldest operation that is kept knows who that was.
BEGIN_UNLESS_BUSY = """
    INSERT INTO operations_operation (
        id, kind, subject_type, subject_id, subject_name, project_id, parameters, step, deadline_at, requested_by,
        requested_by_id, request_id, owner_id, started_at, due_at, attempts, reason, progress_unit, history, outcome,
        cancel_requested_by
    ) VALUES (
        %(id)s, %(kind)s, %(subject_type)s, %(subject_id)s, %(subject_name)s, %(project_id)s, %(parameters)s, %(step)s,
        statement_timestamp() + %(patience)s, %(requested_by)s, %(requested_by_id)s, %(request_id)s,
        coalesce((
            SELECT coalesce(owner_id, requested_by_id) FROM operations_operation
            WHERE subject_type = %(subject_type)s AND subject_id = %(subject_id)s ORDER BY started_at LIMIT 1
        ), %(requested_by_id)s),
        statement_timestamp(), statement_timestamp(), 0, '', '', '[]', '', ''
    )
    ON CONFLICT (subject_type, subject_id) WHERE finished_at IS NULL DO NOTHING
    RETURNING *
"""


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
    facts = {
        "id": uuid4(),
        "kind": workflow.kind,
        "subject_type": workflow.subject_type,
        "subject_id": subject.pk,
        "subject_name": str(subject)[:63],
        "project_id": project_id or getattr(subject, "project_id", None),
        "parameters": json.dumps(parameters or {}),
        "step": step or workflow.first,
        "patience": workflow.patience,
        "requested_by": actor.name,
        "requested_by_id": actor.user_id,
        "request_id": actor.request_id,
    }
    return next(iter(Operation.objects.raw(BEGIN_UNLESS_BUSY, facts)), None)
