"""/api/v1/users, for admins of the cloud; /api/v1/me, for everybody."""

from typing import Any

from django.contrib.auth import update_session_auth_hash
from django.db.models import QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.fields import Flag, Text, as_uuid
from cloud.api.pagination import Filter
from cloud.api.serializers import Body, ReferenceSerializer
from cloud.api.views import Collection, Item, Once, View
from cloud.problems import Forbidden
from cloud.tenancy import accounts
from cloud.tenancy.models import USERNAME_PATTERN, Membership, Role, User

MAX_PASSWORD = 1000


class UsernameField(serializers.RegexField):
    """What a user signs in with."""

    default_error_messages = {
        "invalid": "Use 1 to 63 lower-case letters, digits and . _ @ -; begin with a letter or a digit.",
        "looks_like_id": "A user name may not have the form of an id.",
        "reserved": "The cloud itself goes by this name. Choose another one.",
    }

    def __init__(self, **options: Any):
        super().__init__(USERNAME_PATTERN, max_length=63, trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if as_uuid(data):
            self.fail("looks_like_id")
        if data.endswith("\n"):
            self.fail("invalid")
        if accounts.is_reserved(data):
            self.fail("reserved")
        return str(super().to_internal_value(data))


class EmailField(serializers.EmailField):
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class UserSerializer(serializers.Serializer):
    """A person or a robot that signs in."""

    id = serializers.UUIDField()
    username = serializers.CharField()
    email = serializers.CharField()
    full_name = serializers.CharField()
    is_active = serializers.BooleanField()
    is_cloud_admin = serializers.BooleanField()
    created_at = serializers.DateTimeField()


class CreatedUserSerializer(UserSerializer):
    """With the password where it was made up here: shown this once."""

    secret = serializers.CharField(allow_null=True)


class UserForm(Body):
    """Without a password, one is made up and shown once."""

    username = UsernameField()
    password = Text(required=False, max_length=MAX_PASSWORD)
    email = EmailField(required=False, allow_blank=True, max_length=254)
    full_name = Text(required=False, allow_blank=True, max_length=120)
    is_cloud_admin = Flag(required=False)


class UserChanges(Body):
    password = Text(max_length=MAX_PASSWORD)
    email = EmailField(allow_blank=True, max_length=254)
    full_name = Text(allow_blank=True, max_length=120)
    is_active = Flag()
    is_cloud_admin = Flag()


class UserView(View):
    serializer = UserSerializer
    created = CreatedUserSerializer
    forms = {"POST": UserForm, "PATCH": UserChanges}
    needs_admin = {"GET": True, "POST": True, "PATCH": True, "DELETE": True}

    def rows(self) -> QuerySet[User]:
        return User.objects.all()


class Users(UserView, Collection):
    has_labels = False
    filters = {
        "username": Filter(serializers.CharField()),
        "is_active": Filter(serializers.BooleanField()),
        "is_cloud_admin": Filter(serializers.BooleanField()),
    }

    def create(self, body: dict[str, Any]) -> Once:
        """Without a password one is made, and is in this answer only."""
        return Once(*accounts.create_user(actor=self.actor, **body))


class OneUser(UserView, Item):
    name = "username"

    def change(self, user: User, body: dict[str, Any]) -> User:
        return accounts.update_user(user=user, actor=self.actor, changes=body)

    def remove(self, user: User) -> None:
        """Their sessions and tokens end; what they did stays in the log."""
        accounts.delete_user(user=user, actor=self.actor)


class RoleInProjectSerializer(ReferenceSerializer):
    role = serializers.ChoiceField(Role.choices)


class OwnTokenSerializer(ReferenceSerializer):
    """The token of this request, and how narrow it is."""

    project = ReferenceSerializer(allow_null=True)
    read_only = serializers.BooleanField()  # type: ignore[assignment]
    expires_at = serializers.DateTimeField()


class MeSerializer(UserSerializer):
    """Who asks."""

    projects = serializers.SerializerMethodField(help_text="Where I am a member, and as what.")
    token = serializers.SerializerMethodField()

    @extend_schema_field(RoleInProjectSerializer(many=True))
    def get_projects(self, user: User) -> list[dict[str, Any]]:
        own = Membership.objects.filter(user=user).select_related("project").order_by("project__name")
        token = self.context["scope"].token
        if token and token.project_id:
            own = own.filter(project=token.project_id)
        return [{"id": str(member.project_id), "name": member.project.name, "role": member.role} for member in own]

    @extend_schema_field(OwnTokenSerializer(allow_null=True))
    def get_token(self, user: User) -> dict[str, Any] | None:
        token = self.context["scope"].token
        return OwnTokenSerializer(token).data if token else None


class MeChanges(Body):
    """A new password needs the present one beside it."""

    password = Text(max_length=MAX_PASSWORD)
    current_password = Text(max_length=MAX_PASSWORD)
    email = EmailField(allow_blank=True, max_length=254)
    full_name = Text(allow_blank=True, max_length=120)


class Me(Item):
    """Who asks, with the roles and the token that this request has."""

    serializer = MeSerializer
    forms = {"PATCH": MeChanges}
    summaries = {"GET": "Show who I am", "PATCH": "Change what is known of me"}

    def rows(self) -> QuerySet[User]:
        return User.objects.filter(pk=self.scope.user.pk)

    def one(self, reference: str, *, name: str = "") -> User:
        return self.rows().get()

    def change(self, user: User, body: dict[str, Any]) -> User:
        if self.scope.token is not None and self.scope.token.project_id:
            raise Forbidden("A token for one project does not change its user.")
        current = body.pop("current_password", None)
        changed = accounts.update_me(
            user=user, actor=self.actor, changes=body, current_password=current, by_token=self.scope.token is not None
        )
        if self.scope.token is None and "password" in body and not self.is_dry:
            update_session_auth_hash(self.request._request, changed)  # this session is the one that stays
        return changed


urlpatterns = [
    path("me", Me.as_view()),
    path("users", Users.as_view()),
    path("users/<str:ref>", OneUser.as_view()),
]
