"""/api/v1/projects/{project}/security-groups, and the rules of each"""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from cloud.api.fields import Integer, LabelsField, NameField, ReferenceField, Text, as_uuid, by_reference
from cloud.api.pagination import Filter
from cloud.api.serializers import Body, ReferenceSerializer
from cloud.api.views import Collection, InProject, Item
from cloud.problems import NotFound
from network.api.fields import CASCADE, CidrText, ProtocolField, list_of
from network.api.ports import groups_of
from network.models import SecurityGroup, SecurityGroupRule
from network.models.security import Direction, Family
from network.services import security_groups
from network.services.security_groups import MAX_RULES_AT_ONCE


class RuleSerializer(serializers.Serializer):
    """What may pass. Null means: any."""

    id = serializers.UUIDField()
    direction = serializers.ChoiceField(Direction.values)
    family = serializers.IntegerField(help_text="4 or 6.")
    protocol = ProtocolField(allow_null=True)
    port_min = serializers.IntegerField(allow_null=True)
    port_max = serializers.IntegerField(allow_null=True)
    icmp_type = serializers.IntegerField(allow_null=True)
    icmp_code = serializers.IntegerField(allow_null=True)
    remote_cidr = serializers.CharField(allow_null=True)
    remote_group = ReferenceSerializer(allow_null=True)
    description = serializers.CharField()
    summary = serializers.CharField(source="__str__", help_text="The rule in words.")
    created_at = serializers.DateTimeField()


class SecurityGroupSerializer(serializers.Serializer):
    """Nothing passes a port but what a rule of one of its groups lets through."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField()
    labels = LabelsField()
    rules = RuleSerializer(many=True)
    created_at = serializers.DateTimeField()


class RuleForm(Body):
    """Only the direction has to be given; the family follows from the rest, or is 4."""

    direction = serializers.ChoiceField(Direction.values)
    family = Integer(required=False, allow_null=True)
    protocol = ProtocolField(required=False, allow_null=True)
    port_min = Integer(required=False, allow_null=True, min_value=1, max_value=65535)
    port_max = Integer(required=False, allow_null=True, min_value=1, max_value=65535)
    icmp_type = Integer(required=False, allow_null=True, max_value=255)
    icmp_code = Integer(required=False, allow_null=True, max_value=255)
    remote_cidr = CidrText(required=False, allow_null=True)
    remote_group = ReferenceField(groups_of, required=False, allow_null=True)
    description = Text(required=False, allow_blank=True, max_length=200)

    def validate_family(self, family: int | None) -> int | None:
        if family not in (None, *Family.values):
            raise serializers.ValidationError("4 or 6.")
        return family


class SecurityGroupChanges(Body):
    name = NameField()
    description = Text(required=False, allow_blank=True, max_length=500)
    labels = LabelsField(required=False)


class SecurityGroupForm(SecurityGroupChanges):
    """Without rules it lets everything out, and nothing in."""

    rules = list_of(RuleForm, MAX_RULES_AT_ONCE)


class SecurityGroupView(InProject):
    serializer = SecurityGroupSerializer
    forms = {"POST": SecurityGroupForm, "PATCH": SecurityGroupChanges}
    parameters = {"DELETE": {"cascade": CASCADE}}

    def rows(self) -> QuerySet[SecurityGroup]:
        return groups_of(self.scope).prefetch_related("rules__remote_group")


class SecurityGroups(SecurityGroupView, Collection):
    filters = {"name": Filter(serializers.CharField())}

    def create(self, body: dict[str, Any]) -> SecurityGroup:
        """With all of its rules, or not at all."""
        return security_groups.create(project=self.project, actor=self.actor, **body)


class OneSecurityGroup(SecurityGroupView, Item):
    def change(self, group: SecurityGroup, body: dict[str, Any]) -> SecurityGroup:
        """Its rules are changed below `/rules`."""
        return security_groups.update(group=group, actor=self.actor, changes=body)

    def remove(self, group: SecurityGroup) -> None:
        """Refused while ports are in it; `cascade` deletes the rules of other groups that name it."""
        cascade = bool(self.query().get("cascade"))
        security_groups.delete(group=group, actor=self.actor, cascade=cascade)


class RuleView(InProject):
    serializer = RuleSerializer
    forms = {"POST": RuleForm}

    def rows(self) -> QuerySet[SecurityGroupRule]:
        return SecurityGroupRule.objects.filter(group=self.group).select_related("group", "remote_group")

    @property
    def group(self) -> SecurityGroup:
        found: SecurityGroup | None = by_reference(groups_of(self.scope), self.kwargs["group"]).first()
        if found is None:
            raise NotFound()
        return found

    def one(self, reference: str, *, name: str = "") -> SecurityGroupRule:
        ident = as_uuid(reference)
        found = self.rows().filter(pk=ident).first() if ident else None
        if found is None:
            raise NotFound()
        return found


class Rules(RuleView, Collection):
    has_labels = False
    filters = {"direction": Filter(serializers.ChoiceField(Direction.values))}

    def create(self, body: dict[str, Any]) -> SecurityGroupRule:
        """It holds for every port that is in the group."""
        return security_groups.add_rule(group=self.group, actor=self.actor, rule=body)


class OneRule(RuleView, Item):
    def remove(self, rule: SecurityGroupRule) -> None:
        """Connections that it let through are cut."""
        security_groups.remove_rule(rule=rule, actor=self.actor)


urlpatterns = [
    path("projects/<str:project>/security-groups", SecurityGroups.as_view()),
    path("projects/<str:project>/security-groups/<str:ref>", OneSecurityGroup.as_view()),
    path("projects/<str:project>/security-groups/<str:group>/rules", Rules.as_view()),
    path("projects/<str:project>/security-groups/<str:group>/rules/<str:ref>", OneRule.as_view()),
]
