"""What may be done with projects, their members and their quotas. Users and tokens are in `accounts`."""

from collections.abc import Mapping
from typing import Any

from cloud.events.services import Actor, record
from cloud.problems import Conflict, Fault, explain_constraint
from cloud.tenancy import guesses, new_projects, quota
from cloud.tenancy.accounts import LastAdmin
from cloud.tenancy.models import Membership, Project, Quota, Role, User, default_limits

explain_constraint("one_role_per_project_and_user", "This user is a member of the project already.", pointer="/user")


def create_project(
    *,
    actor: Actor,
    name: str,
    description: str = "",
    labels: dict[str, str] | None = None,
    admin: User | None = None,
    limits: Mapping[str, int | None] | None = None,
) -> Project:
    """A new tenant with its quota, what every project begins with, and its first admin where one is named."""
    project = Project.objects.create(name=name, description=description, labels=labels or {})
    Quota.objects.create(project=project, limits={**default_limits(), **(limits or {})})
    if admin is not None:
        Membership.objects.create(project=project, user=admin, role=Role.ADMIN)
    after = {"name": name, "admin": admin.username if admin else None}
    record("tenancy.project.create", project, actor=actor, project_id=project.pk, after=after)
    new_projects.furnish(project, actor)
    return project


def update_project(*, project: Project, actor: Actor, changes: Mapping[str, Any]) -> Project:
    """Change a project's name, description or labels. Raises RateLimited for one name too many."""
    if changes.get("name", project.name) != project.name:
        guesses.take(actor)
    project = _locked(project)
    before = {field: getattr(project, field) for field in changes}
    for field, value in changes.items():
        setattr(project, field, value)
    project.save(update_fields=list(changes) or None)
    record("tenancy.project.update", project, actor=actor, project_id=project.pk, before=before, after=changes)
    return project


def delete_project(*, project: Project, actor: Actor) -> None:
    """Remove a tenant that has no more than it was given; the refusal counts what is still in it."""
    quota.lock(project)
    project = _locked(project)
    new_projects.clear(project, actor)
    record("tenancy.project.delete", project, actor=actor, project_id=project.pk, before={"name": project.name})
    project.delete()


def add_member(*, project: Project, actor: Actor, user: User, role: str) -> Membership:
    """Let a user into a project."""
    _locked(project)
    membership = Membership.objects.create(project=project, user=user, role=role)
    _record("create", membership, actor, after={"role": role})
    return membership


def change_role(*, membership: Membership, actor: Actor, role: str) -> Membership:
    """Give a member another role. Raises LastAdmin."""
    _locked(membership.project)
    membership = Membership.objects.select_related("user", "project").get(pk=membership.pk)
    if role != Role.ADMIN:
        _require_other_admin(membership)
    before = membership.role
    membership.role = role
    membership.save(update_fields=["role"])
    _record("update", membership, actor, before={"role": before}, after={"role": role})
    return membership


def remove_member(*, membership: Membership, actor: Actor) -> None:
    """Take a user out of a project, with the tokens that were made for it. Raises LastAdmin."""
    _locked(membership.project)
    membership = Membership.objects.select_related("user", "project").get(pk=membership.pk)
    _require_other_admin(membership)
    membership.user.tokens.filter(project=membership.project).delete()
    _record("delete", membership, actor, before={"role": membership.role})
    membership.delete()


def change_quota(*, project: Project, actor: Actor, limits: Mapping[str, int | None]) -> Quota:
    """Set limits (null: none). Raises Conflict for a limit below what is in use, naming each."""
    row = quota.lock(project)
    used = quota.usage(project)
    faults = [
        Fault(f"/{kind}", f"{used[kind]['used']} {kind} are in use; the limit cannot be {limit}.", "conflict")
        for kind, limit in limits.items()
        if limit is not None and kind in used and limit < used[kind]["used"]
    ]
    if faults:
        raise Conflict(" ".join(fault.message for fault in faults), errors=faults)
    before = {kind: row.limits.get(kind) for kind in limits}
    row.limits = {**row.limits, **limits}
    row.save(update_fields=["limits"])
    record("tenancy.quota.update", project, actor=actor, project_id=project.pk, before=before, after=dict(limits))
    return row


def _locked(project: Project) -> Project:
    return Project.objects.select_for_update(no_key=True).get(pk=project.pk)


def _require_other_admin(membership: Membership) -> None:
    """A project with members keeps an active admin among them."""
    others = Membership.objects.filter(project=membership.project).exclude(pk=membership.pk)
    if membership.role != Role.ADMIN or others.filter(role=Role.ADMIN, user__is_active=True).exists():
        return
    raise LastAdmin(f"{membership.user} is the only admin of {membership.project}. Give somebody else that role first.")


def _record(verb: str, membership: Membership, actor: Actor, **facts: Any) -> None:
    """A membership is known by its user: that is what paths and people call it."""
    project = membership.project
    record(f"tenancy.member.{verb}", membership.user, actor=actor, project_id=project.pk, **facts)
