"""What the pages of a whole project add to the frame."""

from django.urls import reverse

from cloud.api.scope import Scope
from cloud.dashboard.guides import address, guides_for, rendered
from cloud.pages import navigation, palette
from cloud.pages.navigation import Place
from cloud.pages.palette import Finder, Item

navigation.register(Place("overview", "Overview", "overview", icon="home", key="o", order=10))
navigation.register(Place("cloud", "Cloud overview", "cloud", icon="home", key="O", order=5, for_cloud_admins=True))
navigation.register(Place("trash", "Trash", "trash", icon="trash", key="z", order=95))


def getting_started(scope: Scope) -> list[Item]:
    if scope.project is None:
        return []
    return [Item("Getting started", "first steps", reverse("getting-started", args=[scope.project.name]), "arrow")]


def guides(scope: Scope) -> list[Item]:
    return [Item(f"Help: {guide.title}", "", address(guide.name), guide.icon) for guide in guides_for(scope)]


def find_help(scope: Scope, text: str, limit: int) -> list[Item]:
    """Parts of the guides, by their headings; the guides themselves without a text."""
    if not text:
        return guides(scope)
    return [
        Item(section.title, guide.title, address(guide.name, section.anchor), "info")
        for guide in guides_for(scope)
        for section in rendered(guide.name).sections
        if text.lower() in f"{section.title} {guide.title}".lower()
    ][:limit]


palette.register_places(getting_started, order=-10)
palette.register_places(guides, order=80)
palette.register(Finder("Help", find_help, order=90, word="help", limit=3))
