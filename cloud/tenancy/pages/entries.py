"""What tenancy adds to the frame of the pages."""

from django.urls import reverse

from cloud.api.scope import Scope
from cloud.pages import links, navigation, palette
from cloud.pages.navigation import Place
from cloud.pages.palette import Finder, Item
from cloud.pages.rows import search
from cloud.tenancy.models import QuotaRequest

navigation.register(
    Place("members", "Members", "members", icon="people", key="m", order=70),
    Place("quota", "Quota", "quota", icon="gauge", key="q", order=80),
    Place("settings", "Settings", "project-settings", icon="cog", key="s", order=90, for_project_admins=True),
    Place("projects-admin", "Projects", "cloud-projects", icon="folder", key="p", order=50, for_cloud_admins=True),
    Place("quota-requests", "Requests", "quota-requests", icon="inbox", key="r", order=60, for_cloud_admins=True),
    Place("users", "Users", "users", icon="person", key="u", order=70, for_cloud_admins=True),
)
navigation.register_waiting("quota-requests", lambda: QuotaRequest.objects.filter(state=QuotaRequest.State.OPEN))
links.register("quota_request", "quota", in_project=True, has_item=False)


def find_projects(scope: Scope, text: str, limit: int) -> list[Item]:
    found = search(scope.projects(), text).order_by("name")[:limit]
    return [Item(project.name, "", reverse("overview", args=[project.name]), "folder") for project in found]


def of_the_account(scope: Scope) -> list[Item]:
    return [
        Item("Notifications", "your account", reverse("notifications"), "bell"),
        Item("API tokens", "your account", reverse("tokens"), "key"),
        Item("Security", "your account", reverse("security"), "shield"),
        Item("Password", "your account", reverse("password"), "person"),
    ]


def of_the_session(scope: Scope) -> list[Item]:
    themes = {"dark": ("Dark theme", "moon"), "light": ("Light theme", "sun"), "system": ("System theme", "half")}
    return [
        *(Item(title, "", reverse("theme"), icon, fields={"theme": theme}) for theme, (title, icon) in themes.items()),
        Item("Sign out", "", reverse("sign-out"), "arrow", fields={}),
    ]


palette.register(Finder("Projects", find_projects, order=30))
palette.register_places(of_the_account, order=10)
palette.register_places(of_the_session, order=90)
