"""Changing: a view runs one service in one transaction, with idempotency, If-Match and dry run around it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from django.db.models import Model
from rest_framework import serializers
from rest_framework.response import Response

from cloud import transactions
from cloud.api import idempotency, plans
from cloud.api.base import BaseView
from cloud.api.etags import etag, matches
from cloud.problems import Stale
from cloud.tenancy import quota
from cloud.tenancy.models import Project


class Once:
    """A new object, as a row or a ready body, together with its secret, which this answer shows and nothing keeps."""

    def __init__(self, row: "Model | Several | dict[str, Any]", secret: str | None, *, shown_as: str = "secret"):
        self.row, self.secret, self.shown_as = row, secret, shown_as


def telling(body: dict[str, Any], member: str, secret: str | None) -> dict[str, Any]:
    """The body with a secret; of a list each of its items with the same one."""
    if "items" in body:
        return {**body, "items": [{**item, member: secret} for item in body["items"]]}
    return {**body, member: secret}


class Answer(Response):
    """With the name of the member that holds a secret, if there is one."""

    secret_member = ""

    def without_secret(self) -> Any:
        return telling(self.data, self.secret_member, None) if self.secret_member else self.data


class Several:
    """A number of new objects, answered as a list is: `{"items": […], "next": null}`."""

    def __init__(self, rows: Sequence[Model]):
        self.rows = rows


def may_begin(method: str, serializer: serializers.Serializer | None) -> bool:
    """Whether an answer of this form can say that work has begun: it, or its items, have a field `operation`."""
    if method == "PATCH" or serializer is None:
        return False  # a change of words begins nothing
    items = serializer.fields.get("items")
    forms = (serializer, items.child if isinstance(items, serializers.ListSerializer) else None)
    return any("operation" in form.fields for form in forms if isinstance(form, serializers.Serializer))


def has_begun(method: str, body: Mapping[str, Any]) -> bool:
    """Whether work has begun: the body, or one of its items, has a live `operation`."""
    return method != "PATCH" and any(one.get("operation") for one in (body, *body.get("items", ())))


class View(BaseView):
    """A view that may change something."""

    def mutate(self, service: Callable[[], Any], *, target: str | None = None) -> Response:
        """Run one service in one transaction and answer with what it returns.

        The service returns a row, `Several(rows)`, `Once(row, secret)`, a ready body, or None (204). The status is 202
        when work has begun (see `has_begun`), otherwise the view's own for this method. `target` is the path's
        reference to the object that If-Match speaks about ("" for the only one).
        """
        request = self.request
        sent = request.data  # read before the transaction begins: a slow sender holds no lock
        dry = self.is_dry
        key = idempotency.read_key(request.headers.get("Idempotency-Key"))
        if dry:
            key = None  # a dry run neither reads nor writes keys
        mark = ""
        if key is not None:
            query = request.META.get("QUERY_STRING", "")
            mark = idempotency.fingerprint(request.method or "", request.path, query, sent)

        def work() -> Response:
            if key is not None and (kept := idempotency.reserve_key(self.scope.caller, key, mark)):
                body = self.replayed(kept.body, key)
                return Response(body, kept.status, headers={**kept.headers, "Idempotent-Replay": "true"})
            if target is not None:
                self._require_match(target)
            before = self._before() if dry else {}
            answer = self._answer(service())
            if dry:
                return self._dry(answer, before)
            if key is not None:
                headers = {name: answer.headers[name] for name in ("Location", "ETag") if name in answer.headers}
                idempotency.keep_answer(
                    self.scope.caller, key, status=answer.status_code, headers=headers, body=answer.without_secret()
                )
            return answer

        return transactions.run(work, dry=dry)

    def replayed(self, body: Any, key: str) -> Any:
        """The answer to a repeated request, whose secrets are null. A subclass may know how to tell them again."""
        return body

    def again(self, row: Any) -> Any:
        """A row that the service has changed, with all that showing it needs."""
        return self.rows().get(pk=row.pk)

    def path_of(self, row: Any) -> str:
        """Where a new object of this collection can be found."""
        return f"{self.request.path}/{quote(str(row.pk))}"

    def plan(self, body: dict[str, Any]) -> dict[str, Any]:
        """What a dry run shows beside the changes and the quota, e.g. a placement. Runs before the rollback."""
        return {}

    def _require_match(self, reference: str) -> None:
        """Raises Stale when If-Match names another state of the object than the present one, which is then locked."""
        wanted = self.request.headers.get("If-Match")
        if wanted is None:
            return
        row = self.one(reference)
        type(row)._base_manager.select_for_update(no_key=True).filter(pk=row.pk).first()
        if not matches(wanted, etag(self.show(self.one(reference)))):
            raise Stale("Read it again, and decide again whether to change it.")

    def _answer(self, result: Any) -> Answer:
        if result is None:
            return Answer(status=204)
        status = self.successes.get(self.request.method or "", 200)
        row = result.row if isinstance(result, Once) else result
        if isinstance(row, Several):
            row = self._list(row)
        body = row if isinstance(row, dict) else self.show(self.again(row))
        headers = {"ETag": etag(body)}
        if status == 201 and not isinstance(row, dict):
            headers["Location"] = self.path_of(row)
        if isinstance(result, Once):
            body = telling(body, result.shown_as, result.secret)
        answer = Answer(body, 202 if has_begun(self.request.method or "", body) else status, headers=headers)
        answer.secret_member = result.shown_as if isinstance(result, Once) else ""
        return answer

    def _list(self, several: Several) -> dict[str, Any]:
        found = self.rows().in_bulk([row.pk for row in several.rows])
        return {"items": [self.show(found[row.pk]) for row in several.rows], "next": None}

    def unchanged(self) -> dict[str, Any]:
        """The plan of a call that only looks."""
        return self._planned(self._before(), {})

    def _before(self) -> dict[str, Any]:
        usage = quota.usage(self.scope.project) if self.scope.project else None
        return {"event": plans.last_event(), "quota": usage}

    def _dry(self, answer: Answer, before: Mapping[str, Any]) -> Response:
        """The answer with its plan. Nothing in it can be fetched: what it shows is about to be rolled back."""
        body = dict(answer.without_secret() or {})
        plan = self._planned(before, body)
        return Response({**body, "plan": plan}, 200 if answer.status_code == 204 else answer.status_code)

    def _planned(self, before: Mapping[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        plan: dict[str, Any] = plans.changes_since(before["event"])
        if before["quota"] is not None and Project.objects.filter(pk=self.scope.project_id).exists():
            plan["quota"] = {"before": before["quota"], "after": quota.usage(self.scope.project_id)}
        return {**plan, **self.plan(body)}
