"""/api/v1/projects/{project}/saved-views: the caller's own."""

from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from cloud.api.fields import Text, as_uuid
from cloud.api.serializers import Body
from cloud.api.views import Collection, InProject, Item
from cloud.tenancy import saved_views
from cloud.tenancy.models import Role, SavedView

PARAMETERS = ("q", "status", "image", "flavor", "owner", "host", "label", "sort")


class SavedViewSerializer(serializers.Serializer):
    """A name for a filter and an order of the dashboard's list of instances."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    query = serializers.CharField(help_text="As in the list's URL: status=running&sort=name.")
    created_at = serializers.DateTimeField()


class SavedViewForm(Body):
    name = Text(max_length=60, trim_whitespace=True)
    query = Text(max_length=500, allow_blank=True, help_text=f"Of {', '.join(PARAMETERS)}: status=running&sort=name.")

    def validate_name(self, name: str) -> str:
        if as_uuid(name):
            raise serializers.ValidationError("A name may not have the form of an id.")
        return name

    def validate_query(self, query: str) -> str:
        try:
            found = parse_qsl(query, strict_parsing=bool(query), max_num_fields=20)
        except ValueError:
            raise serializers.ValidationError("Write it as in a URL: status=running&sort=name.") from None
        if unknown := sorted({name for name, _ in found} - set(PARAMETERS)):
            raise serializers.ValidationError(f"Of {', '.join(PARAMETERS)} only, not {', '.join(unknown)[:100]}.")
        return urlencode(sorted(found, key=lambda pair: PARAMETERS.index(pair[0])))


class SavedViewView(InProject):
    serializer = SavedViewSerializer
    forms = {"POST": SavedViewForm, "PATCH": SavedViewForm}
    roles = dict.fromkeys(("POST", "PATCH", "DELETE"), Role.VIEWER)  # they are nobody else's business

    def rows(self) -> QuerySet[SavedView]:
        return SavedView.objects.filter(project=self.project, user=self.scope.user)


class SavedViews(SavedViewView, Collection):
    has_labels = False

    def create(self, body: dict[str, Any]) -> SavedView:
        return saved_views.save(user=self.scope.user, project=self.project, actor=self.actor, **body)


class OneSavedView(SavedViewView, Item):
    def change(self, view: SavedView, body: dict[str, Any]) -> SavedView:
        return saved_views.change(view=view, actor=self.actor, **body)

    def remove(self, view: SavedView) -> None:
        saved_views.forget(view=view, actor=self.actor)


urlpatterns = [
    path("projects/<str:project>/saved-views", SavedViews.as_view()),
    path("projects/<str:project>/saved-views/<str:ref>", OneSavedView.as_view()),
]
