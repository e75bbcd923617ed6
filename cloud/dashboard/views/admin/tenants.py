"""Projects with their quotas, and users."""

from collections.abc import Callable
from typing import Any

from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.api import transactions
from cloud.api.errors import NotFound
from cloud.api.translate import problem_of
from cloud.pages import forms, words
from cloud.pages.base import FormPage
from cloud.pages.rows import search
from cloud.tenancy import accounts, quota, second_factor, services
from cloud.tenancy.api.projects import ProjectForm, QuotaChanges
from cloud.tenancy.api.users import UserChanges, UserForm
from cloud.tenancy.models import Membership, Project, User
from compute.models import Instance


class CloudProjects(FormPage):
    """Every tenant, and the form for a new one."""

    template = "dashboard/admin/projects.html"
    section = "projects-admin"
    for_cloud_admins = True

    def fill(self) -> dict[str, Any]:
        text = self.request.GET.get("q", "")
        found = search(Project.objects.select_related("quota"), text).annotate(
            member_count=_count(Membership, "project"), instance_count=_count(Instance, "project")
        )
        return {**self.slice(found, ("name", "id")), "q": text}

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        return {**forms.required(post, "name"), **forms.texts(post, "description", "admin")}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        return self.mutate(
            lambda: services.create_project(actor=self.scope.actor, **self.validate(ProjectForm, body)),
            body=body,
            to=lambda project: reverse("cloud-project", args=[project.pk]),
            done=lambda project: f"{project.name} is made. This is its quota.",
        )


def _count(model: Any, column: str) -> Coalesce:
    own = model.objects.filter(**{column: OuterRef("pk")}).order_by().values(column)
    return Coalesce(Subquery(own.annotate(n=Count("pk")).values("n")), 0)


class CloudProject(FormPage):
    """One tenant's quota, to be changed; or the tenant's end."""

    template = "dashboard/admin/project.html"
    partials = {
        "dialog-body": "dashboard/admin/_quota_dialog.html",
        "quota-preview": "dashboard/admin/_quota_preview.html",
    }
    section = "projects-admin"
    for_cloud_admins = True
    subject: Project

    def enter(self, **kwargs: Any) -> None:
        super().enter(**kwargs)
        found = Project.objects.filter(pk=kwargs["ident"]).first()
        if found is None:
            raise NotFound()
        self.subject = found

    def fill(self) -> dict[str, Any]:
        usage = quota.usage(self.subject)
        members = Membership.objects.filter(project=self.subject).select_related("user").order_by("created_at", "id")
        return {
            "subject": self.subject,
            "usage": [{"kind": kind, **use} for kind, use in words.ordered(usage)],
            "members": list(members[:50]),
        }

    def initial(self) -> dict[str, Any]:
        limits = quota.usage(self.subject)
        return {kind: "" if use["limit"] is None else use["limit"] for kind, use in limits.items()}

    def read(self) -> dict[str, Any]:
        """Only what is changed is sent. An empty field means: no limit."""
        post, present = self.request.POST, self.initial()
        written = forms.whole(post, *present)
        asked = {kind: written.get(kind) for kind in present if kind in post}
        return {
            kind: limit for kind, limit in asked.items() if limit != (present[kind] if present[kind] != "" else None)
        }

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        there = reverse("cloud-project", args=[self.subject.pk])
        if self.request.POST.get("verb") == "delete":
            return self.mutate(
                lambda: services.delete_project(project=self.subject, actor=self.scope.actor),
                body={"verb": "delete"},
                to=reverse("cloud-projects"),
                done=f"{self.subject.name} is deleted.",
            )

        def change() -> Any:
            limits = self.validate(QuotaChanges, body, partial=True)
            return services.change_quota(project=self.subject, actor=self.scope.actor, limits=limits)

        if "try" in self.request.GET:
            return self.show({**self.fill(), "values": self.request.POST, **self.try_out(change, body)})
        done = "The quota is changed." if body else "Nothing was different."
        return self.mutate(change, body=body, to=there, done=done)

    def try_out(self, change: Callable[[], Any], body: dict[str, Any]) -> dict[str, Any]:
        """What a change would do, found out by doing it and taking it back."""
        before = quota.usage(self.subject)

        def change_and_look() -> dict[str, quota.Use]:
            change()
            return quota.usage(self.subject)

        try:
            after = transactions.run(change_and_look, dry=True)
        except Exception as error:
            return {"preview_problem": problem_of(error)}
        changed = [kind for kind, use in after.items() if use["limit"] != before[kind]["limit"]]
        return {"preview": [{"kind": kind, "before": before[kind]["limit"], **after[kind]} for kind in changed]}


class Users(FormPage):
    """Everybody who may sign in, and the form for somebody new."""

    template = "dashboard/admin/users.html"
    section = "users"
    for_cloud_admins = True

    def fill(self) -> dict[str, Any]:
        text = self.request.GET.get("q", "").strip().replace("\x00", "")[:63]
        found = User.objects.annotate(project_count=_count(Membership, "user"))
        if text:
            found = found.filter(username__icontains=text)
        return {**self.slice(found, ("username", "id")), "q": text}

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        body: dict[str, Any] = {**forms.required(post, "username"), **forms.texts(post, "full_name", "email")}
        if "is_cloud_admin" in post:
            body["is_cloud_admin"] = True
        return body

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        return self.mutate(
            lambda: accounts.create_user(actor=self.scope.actor, **self.validate(UserForm, body)),
            body=body,
            to=reverse("users"),
            secret=self.show_secret,
        )

    def show_secret(self, made: tuple[User, str | None]) -> HttpResponse:
        user, password = made
        return self.show({**self.fill(), "made": user, "secret": password, "values": {}})


class OneUser(FormPage):
    template = "dashboard/admin/user.html"
    section = "users"
    for_cloud_admins = True
    user: User

    def enter(self, **kwargs: Any) -> None:
        super().enter(**kwargs)
        found = User.objects.filter(pk=kwargs["user"]).first()
        if found is None:
            raise NotFound()
        self.user = found

    def fill(self) -> dict[str, Any]:
        memberships = Membership.objects.filter(user=self.user).select_related("project").order_by("project__name")
        has_second_factor = second_factor.is_on(self.user)
        return {"subject": self.user, "memberships": list(memberships[:200]), "has_second_factor": has_second_factor}

    def initial(self) -> dict[str, Any]:
        own = {name: getattr(self.user, name) for name in ("full_name", "email")}
        return {**own, **{name: "on" if getattr(self.user, name) else "" for name in ("is_active", "is_cloud_admin")}}

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        body: dict[str, Any] = {**forms.required(post, "full_name", "email")}
        body |= forms.flags(post, "is_active", "is_cloud_admin")
        if post.get("password"):
            body["password"] = post["password"]
        return body

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        if self.request.POST.get("verb") == "delete":
            return self.mutate(
                lambda: accounts.delete_user(user=self.user, actor=self.scope.actor),
                body={"verb": "delete"},
                to=reverse("users"),
                done=f"{self.user.username} is gone.",
            )
        return self.mutate(
            lambda: accounts.update_user(
                user=self.user, actor=self.scope.actor, changes=self.validate(UserChanges, body, partial=True)
            ),
            body=body,
            to=reverse("user", args=[self.user.pk]),
            done=f"{self.user.username} is changed.",
        )


class ResetSecondFactor(OneUser):
    """For somebody who has lost the device and the recovery codes."""

    http_method_names = ("post",)

    def post(self, request: HttpRequest, user: str) -> HttpResponse:
        return self.mutate(
            lambda: second_factor.switch_off(user=self.user, actor=self.scope.actor),
            to=reverse("user", args=[self.user.pk]),
            done=f"{self.user.username} signs in by the password alone now.",
        )
