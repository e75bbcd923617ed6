"""What the pages of a whole project add to the frame."""

from django.urls import reverse

from cloud.api.scope import Scope
from cloud.pages import navigation, palette
from cloud.pages.navigation import Place
from cloud.pages.palette import Item

navigation.register(Place("overview", "Overview", "overview", icon="home", key="o", order=10))
navigation.register(Place("cloud", "Cloud overview", "cloud", icon="home", key="O", order=5, for_cloud_admins=True))
navigation.register(Place("trash", "Trash", "trash", icon="trash", key="z", order=95))


def getting_started(scope: Scope) -> list[Item]:
    if scope.project is None:
        return []
    return [Item("Getting started", "first steps", reverse("getting-started", args=[scope.project.name]), "arrow")]


palette.register_places(getting_started, order=-10)
