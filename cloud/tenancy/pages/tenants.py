"""Every project of the cloud, and what each may have."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse

from cloud import transactions
from cloud.api.translate import problem_of
from cloud.pages import forms, sections, words
from cloud.pages.generic import ItemFormPage, ListPage, ResourcePage
from cloud.tenancy import quota, services
from cloud.tenancy.api.projects import ProjectForm, QuotaChanges
from cloud.tenancy.models import Membership, Project


class TenantPage(ResourcePage):
    model, key, title = Project, "ident", "Projects"
    listed_at, section = "cloud-projects", "projects-admin"
    help = "operating#projects-and-users"
    for_cloud_admins = True


class CloudProjects(TenantPage, ListPage):
    """Every tenant, and the form for a new one."""

    template, form = "tenancy/admin/projects.html", ProjectForm
    fields = {"name": forms.REQUIRED, "description": forms.TEXT, "admin": forms.TEXT}
    sorts = {"name": "name", "members": "-member_count", "instances": "-instance_count"}
    searched = ("name", "description")
    live = "project"

    def rows(self) -> "QuerySet[Project]":
        members = sections.count(Membership.objects.all(), "project")
        return Project.objects.select_related("quota").annotate(member_count=members, **sections.counts("project"))

    def create(self, body: dict[str, Any]) -> Project:
        return services.create_project(actor=self.scope.actor, **body)

    def created(self, made: Project) -> str:
        return f"{made.name} is created. This is its quota."

    def after_creating(self, made: Project) -> str:
        return self.route("cloud-project", made.pk)


class CloudProject(TenantPage, ItemFormPage):
    """One tenant's quota, to be changed; or the tenant's end."""

    template = "tenancy/admin/project.html"
    partials = {"dialog-body": "tenancy/admin/_quota_dialog.html", "quota-preview": "tenancy/admin/_quota_preview.html"}

    def fill(self) -> dict[str, Any]:
        usage = quota.usage(self.item)
        members = Membership.objects.filter(project=self.item).select_related("user").order_by("created_at", "id")
        return {
            "subject": self.item,
            "usage": [{"kind": kind, **use} for kind, use in words.ordered(usage)],
            "members": list(members[:50]),
        }

    def initial(self) -> dict[str, Any]:
        limits = quota.usage(self.item)
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
        if self.request.POST.get("verb") == "delete":
            return self.mutate(
                lambda: services.delete_project(project=self.item, actor=self.scope.actor),
                body={"verb": "delete"},
                to=self.the_list,
                done=f"{self.item.name} is deleted.",
            )

        def change() -> Any:
            limits = self.validate(QuotaChanges, body, partial=True)
            return services.change_quota(project=self.item, actor=self.scope.actor, limits=limits)

        if "try" in self.request.GET:
            return self.show({**self.fill(), "values": self.request.POST, **self.try_out(change, body)})
        done = "The quota is changed." if body else "Nothing was different."
        return self.mutate(change, body=body, to=self.route("cloud-project", self.item.pk), done=done)

    def try_out(self, change: Callable[[], Any], body: dict[str, Any]) -> dict[str, Any]:
        """What a change would do, found out by doing it and taking it back."""
        before = quota.usage(self.item)

        def change_and_look() -> dict[str, quota.Use]:
            change()
            return quota.usage(self.item)

        try:
            after = transactions.run(change_and_look, dry=True)
        except Exception as error:
            return {"preview_problem": problem_of(error)}
        changed = [kind for kind, use in after.items() if use["limit"] != before[kind]["limit"]]
        return {"preview": [{"kind": kind, "before": before[kind]["limit"], **after[kind]} for kind in changed]}
