"""What tenancy adds to the frame of the pages."""

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cloud.api.scope import Scope
from cloud.pages import links, navigation, palette, words
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
words.tones("warn", "open")
words.tones("good", "approved")
words.tones("bad", "declined")
words.tones("idle", "withdrawn")
words.VERBS |= {
    "approve": "approved",
    "decline": "declined",
    "withdraw": "took back",
    "sign_in": "signed in",
    "sign_out": "signed out",
    "refuse_sign_in": "failed to sign in as",
    "switch_on_second_factor": "switched on the second factor of",
    "switch_off_second_factor": "switched off the second factor of",
    "renew_recovery_codes": "renewed the recovery codes of",
    "end_sessions": "ended sessions of",
    "connect_single_sign_on": "connected single sign-on for",
    "forget_single_sign_on": "disconnected single sign-on for",
}
words.FILTERS |= {"sign_in": "signed in", "refuse_sign_in": "refused to sign in"}


def came_or_went(told: words.Telling) -> SafeString:
    return format_html("{} {}", told.subject, words.event(told.event.action))


def was_refused(told: words.Telling) -> SafeString:
    somebody = format_html('Somebody at <span class="mono">{}</span>', told.event.actor)
    return format_html("{} {} {}", somebody, words.event(told.event.action), told.subject)


words.SENTENCES |= {
    "tenancy.user.sign_in": came_or_went,
    "tenancy.user.sign_out": came_or_went,
    "tenancy.user.refuse_sign_in": was_refused,
}
