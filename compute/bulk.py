"""One verb for many instances. Each has a savepoint of its own: what is refused for one is not lost for the others."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from django.db.models import Q

from cloud.api.fields import as_uuid
from cloud.api.translate import problem_of
from cloud.events.services import Actor
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.problems import NotFound, Problem
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from compute.models import Instance
from compute.verb import Verb
from compute.verbs import VERBS


@dataclass(frozen=True)
class Result:
    """What became of one: an operation, or a problem that says why not."""

    reference: str
    instance: Instance | None
    operation: Operation | None = None
    problem: Problem | None = None


def act(*, project: Project, actor: Actor, verb: str, references: Iterable[str], **how: Any) -> list[Result]:
    """Do one verb to each of these instances (ids or names), in the order in which they are given.

    Locks are taken in the order of ids, so that two such requests never wait for each other in a circle.
    """
    wanted = list(dict.fromkeys(references))
    found = _found(project, wanted)
    if VERBS[verb].asks_quota:
        quota.lock(project)  # which comes before operations
    results = {}
    for each in sorted(set(found.values()), key=lambda instance: instance.pk):
        results[each.pk] = _do(VERBS[verb], each, actor, how)
    listed, missing = [], NotFound("It may have been deleted.")
    for reference in wanted:
        instance = found.get(reference)
        operation, problem = results.pop(instance.pk, (None, None)) if instance else (None, missing)
        if operation or problem:
            listed.append(Result(reference, instance, operation, problem))
    return listed


def _do(verb: Verb, instance: Instance, actor: Actor, how: dict[str, Any]) -> tuple[Operation | None, Problem | None]:
    try:
        with transaction.atomic():
            done = verb.service(instance=instance, actor=actor, **how)
            return engine.lock("instance", instance.pk) if verb.makes_instances else done, None
    except (Problem, ObjectDoesNotExist) as refusal:
        return None, problem_of(refusal)


def _found(project: Project, references: list[str]) -> dict[str, Instance]:
    """What the references mean, in one query."""
    ids = {ident: reference for reference in references if (ident := as_uuid(reference))}
    names = [reference for reference in references if not as_uuid(reference) and "\x00" not in reference]
    own = Instance.objects.filter(project=project, trashed_at=None).select_related("machine__host")
    own = own.defer("user_data", "machine__seen_facts", "placement")
    found = {}
    for instance in own.filter(Q(pk__in=list(ids)) | Q(name__in=names)):
        found[ids.get(instance.pk, instance.name)] = instance
        if instance.name in names:
            found[instance.name] = instance
    return found
