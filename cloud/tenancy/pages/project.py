"""The projects that one may see; a project's own settings; and who is in it."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.pages import forms
from cloud.pages.base import FormPage
from cloud.pages.generic import ItemPage, ListPage, ResourcePage
from cloud.pages.lists import By
from cloud.tenancy import services
from cloud.tenancy.api.projects import MemberChanges, MemberForm, ProjectChanges
from cloud.tenancy.models import Membership, Project, Role


class Projects(ListPage):
    model, key, title, listed_at, section = Project, "project", "Projects", "projects", "projects"
    help = "projects#finding-your-way"
    template = "tenancy/project/projects.html"
    searched = ("name", "description")

    def rows(self) -> "QuerySet[Project]":
        return self.scope.projects()


class Settings(FormPage):
    """For the project's admins. With another name it has other addresses; what is in it stays as it is."""

    template = "tenancy/project/settings.html"
    section = "settings"
    help = "projects#members"
    role = role_to_change = Role.ADMIN

    def initial(self) -> dict[str, Any]:
        project = self.project
        labels = forms.labels_as_text(project.labels)
        return {"name": project.name, "description": project.description, "labels": labels}

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        return {**forms.required(post, "name", "description"), "labels": forms.labels(post)}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        before = self.initial()
        return self.mutate(
            lambda: services.update_project(
                project=self.project,
                actor=self.scope.actor,
                changes=self.validate(ProjectChanges, body, partial=True),
            ),
            body=body,
            to=lambda project: reverse("project-settings", args=[project.name]),
            done="Changed.",
            undo=(reverse("project-settings", args=[self.project.pk]), before),
        )


class MemberPage(ResourcePage):
    model, key, title = Membership, "user", "Members"
    listed_at = section = "members"
    help = "projects#members"
    role_to_change = Role.ADMIN

    def rows(self) -> "QuerySet[Membership]":
        return super().rows().select_related("user", "project")


class Members(MemberPage, ListPage):
    template, form = "tenancy/project/members.html", MemberForm
    fields = {"user": forms.REQUIRED, "role": forms.REQUIRED}
    sorts = {"since": "created_at", "user": "user__username", "role": "role"}
    sort = "since"
    searched = ("user__username", "user__full_name")
    filters = (By("role", "role"),)

    def fill(self) -> dict[str, Any]:
        return {**super().fill(), "roles": Role.choices}

    def around(self) -> dict[str, Any]:
        return {**super().around(), "creates": self.may(Role.ADMIN)}

    def create(self, body: dict[str, Any]) -> Membership:
        return services.add_member(project=self.project, actor=self.scope.actor, **body)

    def created(self, made: Membership) -> str:
        return f"{made.user} is {made.role} of {self.project} now."


class OneMember(MemberPage, ItemPage):
    """Gives a member another role, or takes the member out."""

    http_method_names = ("post",)
    by = "user_id"

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        membership, name = self.item, self.item.user.username
        if request.POST.get("verb") == "remove":
            return self.mutate(
                lambda: services.remove_member(membership=membership, actor=self.scope.actor),
                body={"verb": "remove"},
                to=self.the_list,
                done=f"{name} is no longer a member of {self.project}.",
            )
        body = forms.required(request.POST, "role")
        return self.mutate(
            lambda: services.change_role(
                membership=membership, actor=self.scope.actor, **self.validate(MemberChanges, body)
            ),
            body=body,
            to=self.the_list,
            done=f"{name} is {body['role']} now.",
        )
