"""Security groups and their rules."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from cloud.events.services import Actor, record
from cloud.problems import Fault, Problem, explain_constraint
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from network import hosting
from network import rules as meaning
from network.models import Port, SecurityGroup, SecurityGroupRule
from network.services.changes import change
from network.services.uses import refuse_if_used, use, user_of

MAX_RULES_AT_ONCE = 100

explain_constraint("rule_is_once_in_its_group", "The group has this rule already.")


class UnfitRule(Problem):
    """A rule that means nothing; `errors` names every fault."""

    title: ClassVar[str] = "The rule means nothing"


def create(
    *,
    project: Project,
    actor: Actor,
    name: str,
    description: str = "",
    labels: dict[str, str] | None = None,
    rules: Sequence[Mapping[str, Any]] | None = None,
) -> SecurityGroup:
    """A group with its first rules; when nothing is said: everything out, nothing in. Raises UnfitRule, OverQuota."""
    whole = [meaning.completed(rule) for rule in (meaning.EVERYTHING_OUT if rules is None else rules)]
    _require_meaning(whole)
    quota.require(project, security_groups=1, security_group_rules=len(whole))
    group = SecurityGroup.objects.create(project=project, name=name, description=description, labels=labels or {})
    made = SecurityGroupRule.objects.bulk_create(SecurityGroupRule(group=group, **rule) for rule in whole)
    after = {"name": name, "rules": [str(rule) for rule in made]}
    record("network.security_group.create", group, actor=actor, after=after)
    return group


def opening_ssh(*, project: Project, actor: Actor) -> SecurityGroup:
    """A group that lets SSH in from anywhere, and nothing else in: one that the project has, or a new one.

    Raises OverQuota.
    """
    quota.lock(project.pk)  # two launches at once make one
    own = list(SecurityGroup.objects.filter(project=project).prefetch_related("rules").order_by("created_at", "pk"))
    if found := next(filter(meaning.opens_ssh_only, own), None):
        return found
    taken = {group.name for group in own}
    free = (name for name in ("ssh", *(f"ssh-{number}" for number in range(2, len(own) + 3))) if name not in taken)
    return create(
        project=project, actor=actor, name=next(free), description="Lets SSH in from anywhere.", rules=meaning.SSH_IN
    )


def _require_meaning(rules: Sequence[Mapping[str, Any]]) -> None:
    """Raises UnfitRule for rules that mean nothing, or are there twice."""
    faults = [
        Fault(f"/rules/{index}{fault.pointer}", fault.message)
        for index, rule in enumerate(rules)
        for fault in meaning.faults_of(rule)
    ]
    seen: set[tuple[Any, ...]] = set()
    for index, rule in enumerate(rules):
        mark = tuple(rule[field] for field in meaning.FIELDS)
        if mark in seen:
            faults.append(Fault(f"/rules/{index}", "The same rule is in the list before it."))
        seen.add(mark)
    if faults:
        raise UnfitRule(" ".join(fault.message for fault in faults), errors=faults)


def update(*, group: SecurityGroup, actor: Actor, changes: Mapping[str, Any]) -> SecurityGroup:
    """Change a group's name, description or labels."""
    group, before = change(group, changes)
    record("network.security_group.update", group, actor=actor, before=before, after=changes)
    return group


def delete(*, group: SecurityGroup, actor: Actor, cascade: bool = False) -> None:
    """Remove a group that no port is in and no other group names; with `cascade` rules that name it go with it.

    Ports are never taken out of a group by its delete: they could become unreachable. Raises InUse.
    """
    quota.lock(group.project_id)
    ports = Port.objects.filter(security_groups=group).order_by("name")
    refuse_if_used(group, map(user_of, ports), hint="Take these out of the group first.")
    naming = SecurityGroupRule.objects.filter(remote_group=group).exclude(group=group).select_related("group")
    if cascade:
        for rule in naming.order_by("pk"):
            remove_rule(rule=rule, actor=actor)
    else:
        uses = [use("security_group", rule.group) for rule in naming.order_by("group__name")]
        refuse_if_used(group, uses, hint="Their rules name it. Delete those first, or use cascade.")
    group.rules.all().delete()
    record("network.security_group.delete", group, actor=actor, before={"name": group.name})
    group.delete()


def add_rule(*, group: SecurityGroup, actor: Actor, rule: Mapping[str, Any]) -> SecurityGroupRule:
    """Let something through. Raises UnfitRule, OverQuota."""
    whole = meaning.completed(rule)
    if faults := list(meaning.faults_of(whole)):
        raise UnfitRule(" ".join(fault.message for fault in faults), errors=faults)
    quota.require(group.project_id, security_group_rules=1)
    made = SecurityGroupRule.objects.create(group=group, **whole)
    record("network.security_group_rule.create", made, actor=actor, project_id=group.project_id, after=_shown(made))
    hosting.changed(group.project_id, rules_of=[group.pk])
    return made


def remove_rule(*, rule: SecurityGroupRule, actor: Actor) -> None:
    """Let it through no more: also connections that are open are cut."""
    record(
        "network.security_group_rule.delete",
        rule,
        actor=actor,
        project_id=rule.group.project_id,
        before=_shown(rule),
    )
    rule.delete()
    hosting.changed(rule.group.project_id, rules_of=[rule.group_id])


def _shown(rule: SecurityGroupRule) -> dict[str, Any]:
    return {"group": rule.group.name, "rule": str(rule)}
