"""/api/v1/projects/{project}/instances"""

from collections.abc import Mapping
from functools import cache
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from cloud.api import pagination, views
from cloud.api.fields import Flag, LabelsField, NameField, called
from cloud.api.mutations import telling
from cloud.api.pagination import Filter, Page
from cloud.api.serializers import Body
from cloud.api.trash import PURGE, TRASHED, Purge, Restore, WithTrash
from cloud.api.views import DRY_RUN, Collection, InProject, Item, Once, Several
from cloud.problems import NotFound
from cloud.queries import Prepared, built_once
from compute import logins, services, user_data
from compute.api.instance_serializers import InstanceSerializer, LaunchedInstanceSerializer
from compute.api.launching import LaunchForm
from compute.models import WISHES, Instance, RestartPolicy
from compute.networking import with_addresses
from compute.status import STATUSES, as_listed, with_status
from compute.verb import Verb
from compute.verbs import VERBS
from compute.volumes import fates, with_volumes


class InstanceChanges(Body):
    name = NameField()
    labels = LabelsField()
    restart_policy = serializers.ChoiceField(RestartPolicy.values)
    protected = Flag()


@built_once
def _shown() -> "QuerySet[Instance]":
    all_of_it = Instance.objects.defer("machine__seen_facts", "placement")
    return with_volumes(with_addresses(with_status(all_of_it.select_related("flavor", "image", "cd", "machine__host"))))


@built_once
def _listed() -> "QuerySet[Instance]":
    return with_volumes(with_addresses(as_listed(Instance.objects.all())))


_called = called(lambda project: _shown().filter(project=project, trashed_at=None))
_one_shown: "Prepared[Instance]" = Prepared(lambda project, ident: _shown().filter(project=project, pk=ident))
_one_listed: "Prepared[Instance]" = Prepared(lambda project, ident: _listed().filter(project=project, pk=ident))


@cache
def _first_page(limit: int) -> "Prepared[Instance]":
    """The first page of a project's list, and one row more. For few limits: each connection keeps a plan of each."""

    def rows(project: Any) -> "QuerySet[Instance]":
        return _listed().filter(project=project, trashed_at=None).order_by(*Collection.order)[: limit + 1]

    return Prepared(rows)


class InstanceView(WithTrash, InProject):
    serializer = InstanceSerializer

    def every(self) -> QuerySet[Instance]:
        return _shown().filter(project=self.project)


class KnownInstance(InstanceView):
    """Of one that exists: prepared queries find it, and show it again once it has changed."""

    def one(self, reference: str, *, name: str = "") -> Any:
        if "trashed" in self.request.query_params:
            return super().one(reference, name=name)
        found = _called(reference, self.project.pk)
        if found is None:
            raise NotFound()
        return found

    def again(self, row: Any) -> Instance:
        """Also one that is in the trash by now."""
        return _one_shown.get(self.project.pk, row.pk)


class Instances(InstanceView, Collection):
    may_create_several = True
    summaries = {"POST": "Launch an instance"}
    forms = {"POST": LaunchForm}
    created = LaunchedInstanceSerializer
    parameters = {
        "POST": {"fail_fast": serializers.BooleanField(help_text="Refuse at once when nothing has room now.")}
    }
    filters = {
        "name": Filter(serializers.CharField()),
        "status": Filter(serializers.ChoiceField(STATUSES)),
        "flavor": Filter(serializers.CharField(), "flavor__name"),
        "image": Filter(serializers.CharField(), "image__name"),
        "wanted_power": Filter(serializers.ChoiceField(WISHES)),
        **TRASHED,
    }

    def every(self) -> QuerySet[Instance]:
        return _listed().filter(project=self.project)

    def found(self, values: Mapping[str, Any], paging: Mapping[str, Any]) -> Page:
        limit = paging.get("limit", pagination.DEFAULT_LIMIT)
        if values or "cursor" in paging or limit not in (pagination.DEFAULT_LIMIT, pagination.MAX_LIMIT):
            return super().found(values, paging)
        found = _first_page(limit).rows(self.project.pk)
        return pagination.cut(found, self.order, request=self.request, limit=limit)

    def again(self, row: Any) -> Instance:
        return _one_listed.get(self.project.pk, row.pk)

    def create(self, body: dict[str, Any]) -> Once:
        """Launch one, or several alike: all or none. Where nothing has room they wait for it, unless `fail_fast`.

        A password that is generated is in this answer, and in those to the same request with the same idempotency key.
        """
        fail_fast = bool(self.query({"dry_run": DRY_RUN}).get("fail_fast"))
        generated = self.generated_password() if body.pop("generate_password", False) else None
        body |= {"password": generated} if generated else {}
        launched = services.launch_many(
            project=self.project, actor=self.actor, fail_fast=fail_fast, dry_run=self.is_dry, **body
        )
        return Once(_one_or_several(launched), generated, shown_as="generated_password")

    @property
    def asked(self) -> dict[str, Any]:
        """The body, which has been found right."""
        assert isinstance(self.request.data, dict)
        return self.request.data

    def generated_password(self) -> str:
        key = self.request.headers.get("Idempotency-Key")
        return logins.generated(self.scope.caller, key, self.asked["name"]) if key else logins.generated()

    def replayed(self, body: dict[str, Any], key: str) -> dict[str, Any]:
        """With the password that was generated, as long as the instance has it."""
        if not self.asked.get("generate_password"):
            return body
        first = body.get("items", [body])[0]
        kept = Instance.objects.filter(pk=first["id"]).values_list("password_hash", flat=True).first()
        generated = self.generated_password()
        return telling(body, "generated_password", generated if logins.matches(generated, kept or "") else None)

    def plan(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = [one["id"] for one in body.get("items", [body])]
        kept = Instance.objects.only("placement").in_bulk([UUID(ident) for ident in ids])
        decisions = [shown_decision(kept[UUID(ident)].placement, self.scope.is_cloud_admin) for ident in ids]
        warnings = logins.warnings(
            keypairs=self.asked.get("keypairs"),
            password=self.asked.get("password") or self.asked.get("generate_password"),
            user_data=self.asked.get("user_data", ""),
        )
        placing = {"placements": decisions} if "items" in body else {"placement": decisions[0]}
        return {**placing, "warnings": [*warnings, *user_data.not_checked(self.asked.get("user_data", ""))]}


class OneInstance(KnownInstance, Item):
    forms = {"PATCH": InstanceChanges}
    descriptions = {"DELETE": VERBS["delete"].says}
    parameters = {"DELETE": PURGE}

    def change(self, instance: Instance, body: dict[str, Any]) -> Instance:
        """A name, labels, a restart policy, and whether it refuses to be deleted; the guest isn't touched."""
        return services.update(instance=instance, actor=self.actor, **body)

    def remove(self, instance: Instance) -> dict[str, Any]:
        services.discard(instance=instance, actor=self.actor, **self.how())
        return self.show(self.again(instance))

    def plan(self, body: dict[str, Any]) -> dict[str, Any]:
        return _fates_in_plan(body) if self.request.method == "DELETE" else {}


class RestoreInstance(Restore, InstanceView):
    kind = "instance"


class PurgeInstance(Purge, InstanceView):
    kind = "instance"

    def plan(self, body: dict[str, Any]) -> dict[str, Any]:
        return _fates_in_plan(body)


def _fates_in_plan(body: dict[str, Any]) -> dict[str, Any]:
    """What becomes of its volumes."""
    instance = Instance.objects.filter(pk=body["id"]).first()
    return {"volumes": [one.told() for one in fates(instance)] if instance else []}


class InstanceVerb(KnownInstance, views.Verb):
    """Whichever verb; it has one view for each (`verb_urls`)."""

    may_create_several = False
    verb: Verb = None  # type: ignore[assignment]  # as_view gives it

    def act(self, instance: Instance, body: dict[str, Any]) -> Instance | Several | Once:
        done = self.verb.service(instance=instance, actor=self.actor, **body)
        return _one_or_several(done) if self.verb.makes_instances else instance


class PasswordVerb(InstanceVerb):
    """One that generates a password where it is given none."""

    created = LaunchedInstanceSerializer

    def act(self, instance: Instance, body: dict[str, Any]) -> Once:
        generated = None if body.get("password") else self.generated_password()
        super().act(instance, {**body, "password": body.get("password") or generated})
        return Once(instance, generated, shown_as="generated_password")

    def generated_password(self) -> str:
        key = self.request.headers.get("Idempotency-Key")
        origin = (self.verb.name, self.scope.caller, key, self.kwargs["ref"]) if key else ()
        return logins.generated(*origin)

    def replayed(self, body: dict[str, Any], key: str) -> dict[str, Any]:
        """With the password that was generated, as long as it is the last one."""
        kept = Instance.objects.filter(pk=body["id"]).values_list("password_reset__hash", flat=True).first()
        generated = self.generated_password()
        return telling(body, "generated_password", generated if logins.matches(generated, kept or "") else None)


def _one_or_several(made: list[Instance]) -> Instance | Several:
    return Several(made) if len(made) > 1 else made[0]


def shown_decision(decision: dict[str, Any] | None, is_admin: bool) -> dict[str, Any] | None:
    """A kept decision as its reader may see it: tenants learn that it is placed, not where."""
    if decision is None:
        return None
    return {**decision, "placed": decision["host"] is not None, "host": decision["host"] if is_admin else None}


urlpatterns = [
    path("projects/<str:project>/instances", Instances.as_view()),
    path("projects/<str:project>/instances/<str:ref>", OneInstance.as_view()),
    path("projects/<str:project>/instances/<str:ref>/restore", RestoreInstance.as_view()),
    path("projects/<str:project>/instances/<str:ref>/purge", PurgeInstance.as_view()),
    *(
        path(
            f"projects/<str:project>/instances/<str:ref>/{verb.name}",
            (PasswordVerb if verb.generates_password else InstanceVerb).as_view(
                verb=verb,
                forms={"POST": verb.body},
                summaries={"POST": f"{verb.label} an instance"},
                descriptions={"POST": verb.says},
                may_create_several=verb.makes_instances,
            ),
        )
        for verb in VERBS.values()
        if verb.method == "POST"
    ),
]
