"""What all pages of one resource share."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import Model, QuerySet
from django.urls import reverse
from rest_framework import serializers

from cloud.pages import forms
from cloud.pages.base import Page


class ResourcePage(Page):
    """What all pages of one resource share."""

    model: ClassVar[type[Model]]
    key: ClassVar[str]  # what routes call the id of an item, and templates the item
    listed_at: ClassVar[str]  # the route of the list
    title: ClassVar[str]  # of the list
    form: ClassVar[type[serializers.Serializer] | None] = None  # the API's, of what is made or changed
    fields: ClassVar[Mapping[str, forms.Field]] = {}  # how its members are read from the page's form

    def rows(self) -> "QuerySet[Any]":
        """What the viewer may see: of the project, or of the whole cloud for its admins."""
        every: QuerySet[Any] = self.model._default_manager.all()
        return every if self.for_cloud_admins else every.filter(project_id=self.project.pk)

    def route(self, name: str, *arguments: Any) -> str:
        """The path of another page, in the same project."""
        project = [] if self.scope.project is None else [self.project.name]
        return reverse(name, args=[*project, *arguments])

    @property
    def the_list(self) -> str:
        return self.route(self.listed_at)
