"""/api/v1/projects, their members and quotas."""

from typing import Any

from django.conf import settings
from django.db.models import Model, QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.fields import MAX_INTEGER, Integer, LabelsField, NameField, ReferenceField, Text, as_uuid
from cloud.api.pagination import Filter
from cloud.api.serializers import Body, ReferenceSerializer
from cloud.api.views import Collection, InProject, Item, View, conditional
from cloud.problems import NotFound
from cloud.tenancy import guesses, quota, services
from cloud.tenancy.models import Membership, Project, Quota, Role, User


class ProjectSerializer(serializers.Serializer):
    """A tenant: the owner of instances, key pairs and everything else that is not the cloud's."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField()
    labels = LabelsField()
    role = serializers.ChoiceField(Role.choices, help_text="The caller's.")
    created_at = serializers.DateTimeField()


class ProjectForm(Body):
    name = NameField()
    description = Text(required=False, allow_blank=True, max_length=500)
    labels = LabelsField(required=False)
    admin = ReferenceField(
        lambda scope: User.objects.filter(is_active=True), name="username", required=False, help_text="Its first admin."
    )


class ProjectChanges(Body):
    name = NameField()
    description = Text(allow_blank=True, max_length=500)
    labels = LabelsField()


class Projects(Collection):
    """Those that the caller is a member of; all, for admins of the cloud."""

    serializer = ProjectSerializer
    forms = {"POST": ProjectForm}
    needs_admin = {"POST": True}
    filters = {"name": Filter(serializers.CharField())}

    def rows(self) -> QuerySet[Project]:
        return self.scope.projects()

    def create(self, body: dict[str, Any]) -> Project:
        return services.create_project(actor=self.actor, **body)


class OneProject(InProject, Item):
    serializer = ProjectSerializer
    forms = {"PATCH": ProjectChanges}
    roles = {"PATCH": Role.ADMIN}
    needs_admin = {"DELETE": True}

    def rows(self) -> QuerySet[Project]:
        return self.scope.projects()

    def one(self, reference: str, *, name: str = "") -> Project:
        return self.rows().get(pk=self.scope.project_id)

    def change(self, project: Project, body: dict[str, Any]) -> Project:
        return services.update_project(project=project, actor=self.actor, changes=body)

    def remove(self, project: Project) -> None:
        """Refused while it has instances."""
        services.delete_project(project=project, actor=self.actor)


class MemberSerializer(serializers.Serializer):
    """One user's role in the project. Its id and name are the user's."""

    id = serializers.UUIDField(source="user_id")
    name = serializers.CharField(source="user.username")
    user = serializers.SerializerMethodField()
    full_name = serializers.CharField(source="user.full_name")
    role = serializers.ChoiceField(Role.choices)
    created_at = serializers.DateTimeField()

    @extend_schema_field(ReferenceSerializer)
    def get_user(self, membership: Membership) -> dict[str, str]:
        return {"id": str(membership.user_id), "name": membership.user.username}


class UserField(ReferenceField):
    """A user by name or id. Who guesses is told so often that there is nobody of that name, and no oftener."""

    def to_internal_value(self, data: Any) -> Model:
        try:
            return super().to_internal_value(data)
        except serializers.ValidationError:
            guesses.take(self.context["scope"].actor)
            raise


class MemberForm(Body):
    user = UserField(lambda scope: User.objects.filter(is_active=True), name="username")
    role = serializers.ChoiceField(Role.choices)


class MemberChanges(Body):
    role = serializers.ChoiceField(Role.choices)


class MemberView(InProject):
    serializer = MemberSerializer
    forms = {"POST": MemberForm, "PATCH": MemberChanges}
    roles = {method: Role.ADMIN for method in ("POST", "PATCH", "DELETE")}

    def rows(self) -> QuerySet[Membership]:
        return Membership.objects.filter(project=self.project).select_related("user", "project")


class Members(MemberView, Collection):
    has_labels = False
    filters = {"role": Filter(serializers.ChoiceField(Role.choices))}

    def create(self, body: dict[str, Any]) -> Membership:
        return services.add_member(project=self.project, actor=self.actor, **body)

    def path_of(self, row: Membership) -> str:
        return f"{self.request.path}/{row.user_id}"


class OneMember(MemberView, Item):
    def one(self, reference: str, *, name: str = "") -> Membership:
        return by_user(self.rows(), reference)

    def change(self, membership: Membership, body: dict[str, Any]) -> Membership:
        return services.change_role(membership=membership, actor=self.actor, **{"role": membership.role, **body})

    def remove(self, membership: Membership) -> None:
        """Refused for the last admin."""
        services.remove_member(membership=membership, actor=self.actor)


def by_user(rows: QuerySet[Membership], reference: str) -> Membership:
    """The membership of a user, by the user's id or name; raises NotFound."""
    ident = as_uuid(reference)
    known = rows.filter(user_id=ident) if ident else rows.filter(user__username=reference.replace("\x00", ""))
    found = known.first()
    if found is None:
        raise NotFound()
    return found


class UseSerializer(serializers.Serializer):
    """Null means: no limit."""

    limit = serializers.IntegerField(allow_null=True)
    used = serializers.IntegerField()
    left = serializers.IntegerField(allow_null=True)


def of_every_kind(name: str, field: Any, base: type[serializers.Serializer], words: str) -> Any:
    """A serializer with one field for every kind of quota."""
    return type(name, (base,), {**{kind: field() for kind in settings.DEFAULT_QUOTA}, "__doc__": words})


QuotaSerializer: Any = of_every_kind(
    "QuotaSerializer", UseSerializer, serializers.Serializer, "Limit, use and what is left, by kind."
)
QuotaChanges: Any = of_every_kind(
    "QuotaChanges",
    lambda: Integer(allow_null=True, max_value=MAX_INTEGER),
    Body,
    "Limits by kind; null means: no limit.",
)


class ProjectQuota(InProject, View):
    """How much the project may have, has, and has left of everything."""

    serializer = QuotaSerializer
    forms = {"PATCH": QuotaChanges}
    needs_admin = {"PATCH": True}

    def rows(self) -> QuerySet[Quota]:
        return Quota.objects.filter(pk=self.scope.project_id)

    def one(self, reference: str, *, name: str = "") -> Quota:
        return self.rows().get()

    def show(self, row: Quota) -> dict[str, Any]:
        return dict(quota.usage(row.pk))

    def get(self, request: Request, project: str) -> Response:
        self.query()
        return conditional(request, self.show(self.one("")))

    def patch(self, request: Request, project: str) -> Response:
        return self.mutate(
            lambda: services.change_quota(project=self.project, actor=self.actor, limits=self.form(partial=True)),
            target="",
        )


urlpatterns = [
    path("projects", Projects.as_view()),
    path("projects/<str:project>", OneProject.as_view()),
    path("projects/<str:project>/members", Members.as_view()),
    path("projects/<str:project>/members/<str:ref>", OneMember.as_view()),
    path("projects/<str:project>/quota", ProjectQuota.as_view()),
]
