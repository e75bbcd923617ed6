"""Security groups: in words, what is open to whom; and the editor of their rules."""

from typing import Any

from django.db.models import Count, Prefetch, QuerySet
from django.http import HttpResponse

from cloud.pages import forms
from cloud.pages.base import Undo
from cloud.pages.bulk import ForMany
from cloud.pages.deleting import DeletePage
from cloud.pages.generic import ChangePage, ItemFormPage, ListPage, ResourcePage, VerbPage
from network.api.security_groups import RuleForm, SecurityGroupChanges, SecurityGroupForm
from network.models import Port, SecurityGroup, SecurityGroupRule
from network.models.security import Direction
from network.pages import rules
from network.pages.base import MAX_CHOICES
from network.pages.fields import choices
from network.services import security_groups

NAMED = {"name": forms.REQUIRED, "description": forms.TEXT, "labels": forms.LABELS}
MAX_MEMBERS = 50


class GroupPage(ResourcePage):
    model, key, title = SecurityGroup, "group", "Security groups"
    listed_at = section = "security-groups"
    help = "networks#letting-somebody-in"

    def rows(self) -> "QuerySet[Any]":
        ordered = SecurityGroupRule.objects.select_related("remote_group").order_by("direction", "created_at", "pk")
        own = SecurityGroup.objects.filter(project=self.project).annotate(port_count=Count("ports"))
        return own.prefetch_related(Prefetch("rules", ordered))


class Groups(GroupPage, ListPage):
    template, form, fields = "network/security_groups/list.html", SecurityGroupForm, NAMED
    sorts = {"name": "name", "ports": "-port_count"}
    searched = ("name", "description")
    live = "security_group"

    def tell(self, shown: list[Any]) -> list[Any]:
        return [(group, *_both_ways(group)) for group in shown]

    def create(self, body: dict[str, Any]) -> SecurityGroup:
        return security_groups.create(project=self.project, actor=self.scope.actor, **body)

    def created(self, made: SecurityGroup) -> str:
        return f"The security group {made.name} is here. It lets everything out and nothing in yet."

    def after_creating(self, made: SecurityGroup) -> str:
        return self.route("security-group", made.pk)

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeleteGroup),)


def _both_ways(group: SecurityGroup) -> tuple[list[str], list[str]]:
    every = group.rules.all()
    return rules.summary(every, Direction.INGRESS), rules.summary(every, Direction.EGRESS)


class OneGroup(GroupPage, ItemFormPage):
    """Its rules, with a form for one more, and the ports that they hold for."""

    template = "network/security_groups/group.html"

    def initial(self) -> dict[str, Any]:
        return {"direction": Direction.INGRESS, "protocol": "ssh"}

    def fill(self) -> dict[str, Any]:
        told = [(rule, rules.in_words(rule)) for rule in self.item.rules.all()]
        others = SecurityGroup.objects.filter(project=self.project).order_by("name")
        naming = others.filter(rules__remote_group=self.item).exclude(pk=self.item.pk).distinct()
        ports = Port.objects.filter(security_groups=self.item).select_related("network").order_by("name")
        return {
            **super().fill(),
            "rules_in": [told_of for told_of in told if told_of[0].direction == Direction.INGRESS],
            "rules_out": [told_of for told_of in told if told_of[0].direction == Direction.EGRESS],
            "protocols": rules.CHOICES,
            "groups": [("", "no group"), *choices(others[:MAX_CHOICES])],
            "naming": list(naming[:MAX_MEMBERS]),
            "ports": list(ports[:MAX_MEMBERS]),
        }

    def read(self) -> dict[str, Any]:
        return rules.read(self.request.POST)

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        def add() -> SecurityGroupRule:
            rule = self.validate(RuleForm, body)
            return security_groups.add_rule(group=self.item, actor=self.scope.actor, rule=rule)

        return self.mutate(add, body=body, to=self.request.path, done=lambda rule: f"Open now: {rules.in_words(rule)}.")


class ChangeGroup(GroupPage, ChangePage):
    template, form = "network/security_groups/change.html", SecurityGroupChanges
    fields = {**NAMED, "description": forms.REQUIRED}  # it may be emptied

    def change(self, changes: dict[str, Any]) -> SecurityGroup:
        return security_groups.update(group=self.item, actor=self.scope.actor, changes=changes)

    def after(self) -> str:
        return self.route("security-group", self.item.pk)


class DeleteGroup(GroupPage, DeletePage):
    kind = "security_group"

    def delete(self) -> None:
        security_groups.delete(group=self.item, actor=self.scope.actor, cascade=True)

    def leave(self) -> str:
        return self.route("security-group", self.item.pk)


class RemoveRule(VerbPage):
    model, key, title = SecurityGroupRule, "rule", "Rules"
    listed_at = "security-groups"

    def rows(self) -> "QuerySet[SecurityGroupRule]":
        own = SecurityGroupRule.objects.filter(group=self.kwargs["group"], group__project=self.project)
        return own.select_related("group", "remote_group")

    def act(self) -> None:
        security_groups.remove_rule(rule=self.item, actor=self.scope.actor)

    def done(self, result: None) -> str:
        return f"Closed now: {rules.in_words(self.item)}."

    def undo(self) -> Undo:
        """The form that adds it once more."""
        return self.after(), rules.write(self.item)

    def after(self) -> str:
        return self.route("security-group", self.kwargs["group"])
