"""From exceptions of Django, DRF and PostgreSQL to problems, and from problems to responses."""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from django.apps import apps
from django.core import exceptions as django_errors
from django.db import models
from django.db.utils import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpResponse, UnreadablePostError
from rest_framework import exceptions as rest_errors
from rest_framework.response import Response

from cloud import problems
from cloud.problems import Fault, Problem
from cloud.transactions import CONFLICTING

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"


def problem_of(error: BaseException) -> Problem:
    """The problem that says what this exception means to the caller."""
    match error:
        case Problem():
            return error
        case rest_errors.APIException():
            return _of_rest(error)
        case Http404() | django_errors.ObjectDoesNotExist():
            return problems.NotFound()
        case django_errors.PermissionDenied():
            return problems.Forbidden(str(error))
        case django_errors.DisallowedHost():
            return problems.Invalid(f"{error} An operator lists the names of this cloud in PILEUS_ALLOWED_HOSTS.")
        case django_errors.RequestDataTooBig():
            return problems.TooLarge()
        case django_errors.BadRequest() | django_errors.SuspiciousOperation() | UnreadablePostError():
            return problems.Invalid()
        case django_errors.ValidationError():
            return problems.Invalid(errors=[Fault("", message) for message in error.messages])
        case models.ProtectedError() | models.RestrictedError():
            return _in_use(error)
        case DatabaseError() | InterfaceError() | psycopg.Error():
            return _of_database(error)
    log.error("request.failed", exc_info=error)
    return problems.Internal("It has been logged under the request_id of this answer.")


def _of_rest(error: rest_errors.APIException) -> Problem:
    match error:
        case rest_errors.ValidationError():
            return problems.Invalid(errors=list(faults_of(error.detail)))
        case rest_errors.NotAuthenticated() | rest_errors.AuthenticationFailed():
            return problems.Unauthenticated(str(error.detail))
        case rest_errors.PermissionDenied():
            return problems.Forbidden(str(error.detail))
        case rest_errors.NotFound():
            return problems.NotFound()
        case rest_errors.MethodNotAllowed():
            return problems.MethodNotAllowed()
        case rest_errors.UnsupportedMediaType():
            return problems.UnsupportedMediaType()
    return problems.Invalid(str(error.detail))


def faults_of(detail: Any, pointer: str = "") -> Iterator[Fault]:
    """Every fault in DRF's nest of errors, with its JSON pointer."""
    if isinstance(detail, Mapping):
        for key, inner in detail.items():
            step = "" if key == "non_field_errors" else "/" + str(key).replace("~", "~0").replace("/", "~1")
            yield from faults_of(inner, pointer + step)
    elif isinstance(detail, list):
        for index, inner in enumerate(detail):
            nested = isinstance(inner, Mapping | list)
            yield from faults_of(inner, f"{pointer}/{index}" if nested else pointer)
    else:
        yield Fault(pointer, str(detail), getattr(detail, "code", "invalid"))


def _of_database(error: Exception) -> Problem:
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    state = getattr(cause, "sqlstate", None) or ""
    if isinstance(error, IntegrityError | psycopg.IntegrityError):
        return _of_constraint(getattr(cause, "diag", None), error)
    if isinstance(error, DataError | psycopg.DataError):
        log.warning("request.data_refused_by_database", exc_info=error)
        return problems.Invalid("A value is outside of what can be kept.")
    if state == "57014":
        return problems.Unavailable("The database took too long to answer. Trying again may help.")
    if state == "55P03" or state in CONFLICTING:
        return problems.Unavailable(
            "Somebody else is changing the same things. Try again.", headers={"Retry-After": "1"}
        )
    if isinstance(error, OperationalError | InterfaceError | psycopg.OperationalError | psycopg.InterfaceError):
        log.warning("request.database_unavailable: %s", error)
        return problems.Unavailable("The database does not answer. Nothing is lost; try again in a moment.")
    log.error("request.failed", exc_info=error)
    return problems.Internal("It has been logged under the request_id of this answer.")


def _of_constraint(diagnosis: Any, error: Exception) -> Problem:
    name, table = getattr(diagnosis, "constraint_name", None), getattr(diagnosis, "table_name", None)
    explained = problems.of_constraint(name)
    if explained:
        return explained
    unique_fields = _unique_fields(table, name)
    if "name" in unique_fields or "username" in unique_fields:
        message = "This name is taken. Choose another one."
        return problems.Conflict(message, errors=[Fault("/name", message, "conflict")])
    log.error("request.unexplained_constraint %s", name, exc_info=error)
    return problems.Conflict("This is in conflict with what is there, or with a rule of the cloud.")


def _unique_fields(table: str | None, constraint: str | None) -> set[str]:
    model = next((model for model in apps.get_models() if model._meta.db_table == table), None)
    if model is None or constraint is None:
        return set()
    for unique in model._meta.constraints:
        if isinstance(unique, models.UniqueConstraint) and unique.name == constraint:
            return set(unique.fields)
    return {field.name for field in model._meta.fields if field.unique and constraint == f"{table}_{field.column}_key"}


def _in_use(error: models.ProtectedError | models.RestrictedError) -> Problem:
    """What still refers to the thing to be deleted, counted by kind; what is in the trash by itself."""
    users = error.protected_objects if isinstance(error, models.ProtectedError) else error.restricted_objects
    counts: dict[tuple[str, str], int] = {}
    for user in users:
        kind = (str(user._meta.verbose_name), " in the trash" if getattr(user, "trashed_at", None) else "")
        counts[kind] = counts.get(kind, 0) + 1
    found = sorted(counts.items())
    words = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}{where}" for (kind, where), count in found)
    hint = " Delete what is in the trash for good, or restore it." if any(where for _, where in counts) else ""
    return problems.Conflict(f"It is in use by {words}.{hint}")


def exception_handler(exception: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's hook: any exception becomes a problem document."""
    return rest_response(problem_of(exception), context["request"])


def rest_response(problem: Problem, request: Any) -> Response:
    """For views of DRF."""
    request_id = getattr(request, "request_id", "")
    return Response(problem.body(request_id), problem.status, headers=problem.headers, content_type=PROBLEM_JSON)


def plain_response(problem: Problem, request: Any) -> HttpResponse:
    """For everything else."""
    body = json.dumps(problem.body(getattr(request, "request_id", ""))).encode()
    headers = {"Content-Length": str(len(body)), **problem.headers}
    return HttpResponse(body, status=problem.status, headers=headers, content_type=PROBLEM_JSON)
