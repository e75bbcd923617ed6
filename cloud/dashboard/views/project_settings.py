"""A project's own settings: its name, what it is for, its labels."""

from typing import Any

from django.http import HttpResponse
from django.urls import reverse

from cloud.pages import forms
from cloud.pages.base import FormPage
from cloud.tenancy import services
from cloud.tenancy.api.projects import ProjectChanges
from cloud.tenancy.models import Role


class Settings(FormPage):
    """For the project's admins. With another name it has other addresses; what is in it stays as it is."""

    template = "dashboard/project/settings.html"
    section = "settings"
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
