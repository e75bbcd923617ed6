"""Everybody who may sign in."""

from collections.abc import Mapping
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse

from cloud.pages import forms, sections
from cloud.pages.generic import ChangePage, ListPage, ResourcePage, VerbPage
from cloud.tenancy import accounts, second_factor
from cloud.tenancy.api.users import UserChanges, UserForm
from cloud.tenancy.models import Membership, User


class UserPage(ResourcePage):
    model, key, title = User, "user", "Users"
    listed_at = section = "users"
    help = "operating#projects-and-users"
    for_cloud_admins = True


class Users(UserPage, ListPage):
    """All of them, and the form for somebody new."""

    template, form = "tenancy/admin/users.html", UserForm
    sorts = {
        "user_name": "username",
        "name": "full_name",
        "projects": "-project_count",
        "signed_in": "-last_login",
    }
    sort = "user_name"
    searched = ("username", "full_name", "email")

    def rows(self) -> "QuerySet[User]":
        return User.objects.annotate(project_count=sections.count(Membership.objects.all(), "user"))

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        body: dict[str, Any] = {**forms.required(post, "username"), **forms.texts(post, "full_name", "email")}
        if "is_cloud_admin" in post:
            body["is_cloud_admin"] = True
        return body

    def create(self, body: dict[str, Any]) -> tuple[User, str | None]:
        return accounts.create_user(actor=self.scope.actor, **body)

    def makes_secret(self, body: Mapping[str, Any]) -> bool:
        return True

    def show_secret(self, made: tuple[User, str | None]) -> HttpResponse:
        user, password = made
        return self.show({**self.fill(), "made": user, "secret": password, "values": {}})


class OneUser(UserPage, ChangePage):
    template, form = "tenancy/admin/user.html", UserChanges
    fields = {
        "full_name": forms.REQUIRED,
        "email": forms.REQUIRED,
        "is_active": forms.FLAG,
        "is_cloud_admin": forms.FLAG,
    }
    can_undo = False

    def fill(self) -> dict[str, Any]:
        memberships = Membership.objects.filter(user=self.item).select_related("project").order_by("project__name")
        has_second_factor = second_factor.is_on(self.item)
        return {"subject": self.item, "memberships": list(memberships[:200]), "has_second_factor": has_second_factor}

    def read(self) -> dict[str, Any]:
        password = self.request.POST.get("password")
        return {**super().read(), **({"password": password} if password else {})}

    def after(self) -> str:
        return self.route("user", self.item.pk)

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        if self.request.POST.get("verb") == "delete":
            return self.mutate(
                lambda: accounts.delete_user(user=self.item, actor=self.scope.actor),
                body={"verb": "delete"},
                to=self.the_list,
                done=f"{self.item.username} is gone.",
            )
        return super().submit(body)

    def change(self, changes: dict[str, Any]) -> User:
        return accounts.update_user(user=self.item, actor=self.scope.actor, changes=changes)

    def changed(self, row: User) -> str:
        return f"{self.item.username} is changed."


class ResetSecondFactor(UserPage, VerbPage):
    """For somebody who has lost the device and the recovery codes."""

    def after(self) -> str:
        return self.route("user", self.item.pk)

    def act(self) -> None:
        second_factor.switch_off(user=self.item, actor=self.scope.actor)

    def done(self, result: None) -> str:
        return f"{self.item.username} signs in by the password alone now."
