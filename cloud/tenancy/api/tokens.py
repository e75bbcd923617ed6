"""/api/v1/tokens: the caller's own."""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from cloud.api.fields import Flag, NameField, ReferenceField
from cloud.api.pagination import Filter
from cloud.api.serializers import Body, ReferenceSerializer
from cloud.api.views import Collection, Item, Once, View
from cloud.tenancy import accounts
from cloud.tenancy.models import Token


class TokenSerializer(serializers.Serializer):
    """What opens the API in its user's name; never the secret itself."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    project = ReferenceSerializer(allow_null=True, help_text="The only project that it opens; null: all of its user's.")
    read_only = serializers.BooleanField()  # type: ignore[assignment]
    expires_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class CreatedTokenSerializer(TokenSerializer):
    """With the secret: shown this once, kept nowhere."""

    secret = serializers.CharField(allow_null=True)


class DateTime(serializers.DateTimeField):
    """RFC 3339, as text."""

    def to_internal_value(self, value: Any) -> Any:
        if not isinstance(value, str):
            self.fail("invalid", format="RFC 3339")
        try:
            return super().to_internal_value(value.upper())  # its t and z may be small
        except OverflowError:
            self.fail("overflow")


class TokenForm(Body):
    """Without an end it lives for 90 days."""

    name = NameField()
    project = ReferenceField(lambda scope: scope.projects(), required=False)
    read_only = Flag(required=False)  # type: ignore[assignment]
    expires_at = DateTime(required=False)


class TokenView(View):
    """The caller's own."""

    serializer = TokenSerializer
    created = CreatedTokenSerializer
    forms = {"POST": TokenForm}

    def rows(self) -> QuerySet[Token]:
        own = Token.objects.filter(user=self.scope.user).select_related("project")
        narrow = self.scope.token and self.scope.token.project_id
        return own.filter(project=narrow) if narrow else own


class Tokens(TokenView, Collection):
    has_labels = False
    filters = {"name": Filter(serializers.CharField())}

    def create(self, body: dict[str, Any]) -> Once:
        return Once(*accounts.create_token(user=self.scope.user, actor=self.actor, made_with=self.scope.token, **body))


class OneToken(TokenView, Item):
    def remove(self, token: Token) -> None:
        accounts.revoke_token(token=token, actor=self.actor)


urlpatterns = [
    path("tokens", Tokens.as_view()),
    path("tokens/<str:ref>", OneToken.as_view()),
]
