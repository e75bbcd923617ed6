"""The palette: go somewhere or find something by name or id, from any page."""

from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.dashboard import rows
from cloud.pages import navigation
from cloud.pages.base import Page
from cloud.tenancy.models import Role
from compute.models import Instance

MOST_FOUND = 8
MOST_CONSOLES = 3  # unless it is consoles that are looked for
Machine = tuple[UUID, str, str, str]


class Palette(Page):
    """What a few letters could mean. Without JavaScript it is a page of its own."""

    template = "pages/palette.html"
    partials = {"palette-results": "pages/_palette.html"}
    section = "palette"

    def get(self, request: HttpRequest) -> HttpResponse:
        text = request.GET.get("q", "").strip()[:80].replace("\x00", "")
        current = request.GET.get("project", "")
        if current and (found := self.scope.projects().filter(name=current[:63]).first()):
            self.scope.project = found
        return self.show({"q": text, "groups": self.find(text)})

    def find(self, text: str) -> list[tuple[str, list[dict[str, Any]]]]:
        word, _, named = text.partition(" ")
        if word.lower() == "console":
            consoles = self.consoles(self.machines(named.strip()), MOST_FOUND)
            return [("Consoles", consoles)] if consoles else []
        groups = [("Go to", self.places(text))]
        if text:
            visible = self.scope.projects()
            machines = self.machines(text)
            groups += [
                (
                    "Instances",
                    [
                        {
                            "name": name,
                            "note": project,
                            "url": reverse("instance", args=[project, ident]),
                            "icon": "server",
                        }
                        for ident, name, project, _ in machines
                    ],
                ),
                ("Consoles", self.consoles(machines, MOST_CONSOLES)),
                (
                    "Projects",
                    [
                        {
                            "name": project.name,
                            "note": "",
                            "url": reverse("overview", args=[project.name]),
                            "icon": "folder",
                        }
                        for project in rows.search(visible, text).order_by("name")[:MOST_FOUND]
                    ],
                ),
            ]
            if self.scope.is_cloud_admin:
                found = rows.search(rows.hosts(), text).order_by("name")[:MOST_FOUND]
                hosts = [
                    {"name": host.name, "note": "host", "url": reverse("host", args=[host.pk]), "icon": "rack"}
                    for host in found
                ]
                groups.append(("Hosts", hosts))
        return [(title, found) for title, found in groups if found]

    def machines(self, text: str) -> list[Machine]:
        """Instances that the viewer may see: id, name, project, and the viewer's role there."""
        visible = self.scope.projects()
        found = rows.search(Instance.objects.filter(project__in=visible.values("pk")), text).order_by("name")
        role = Subquery(visible.filter(pk=OuterRef("project")).values("role"))  # type: ignore[misc]  # annotated
        return list(found.values_list("pk", "name", "project__name", role)[:MOST_FOUND])

    def consoles(self, machines: list[Machine], most: int) -> list[dict[str, Any]]:
        """Straight to the serial console, where the viewer may type."""
        return [
            {
                "name": f"Console of {name}",
                "note": project,
                "url": reverse("console", args=[project, ident]),
                "icon": "terminal",
            }
            for ident, name, project, role in machines
            if role != Role.VIEWER
        ][:most]

    def places(self, text: str) -> list[dict[str, Any]]:
        places: list[dict[str, Any]] = []
        if self.scope.project is not None:
            url = reverse("launch", args=[self.scope.project.name])
            places.append({"name": "Launch an instance", "note": self.scope.project.name, "url": url, "icon": "plus"})
            url = reverse("getting-started", args=[self.scope.project.name])
            places.append({"name": "Getting started", "note": "by the API", "url": url, "icon": "arrow"})
        for group in navigation.of(self.scope, "", self.scope.project):
            places += [
                {"name": entry.name, "note": group.title, "url": entry.url, "icon": entry.icon}
                for entry in group.entries
            ]
        places += [
            {"name": "Notifications", "note": "your account", "url": reverse("notifications"), "icon": "bell"},
            {"name": "API tokens", "note": "your account", "url": reverse("tokens"), "icon": "key"},
            {"name": "Security", "note": "your account", "url": reverse("security"), "icon": "shield"},
            {"name": "Password", "note": "your account", "url": reverse("password"), "icon": "person"},
        ]
        return [place for place in places if text.lower() in f"{place['name']} {place['note']}".lower()]
