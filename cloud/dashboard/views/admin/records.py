"""What is done and was done in the whole cloud: operations and the audit log."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.api.errors import NotFound
from cloud.api.fields import as_uuid
from cloud.dashboard import rows
from cloud.dashboard.views.project import narrow_events
from cloud.operations import engine
from cloud.operations.models import Operation, Outcome
from cloud.pages.base import Page
from cloud.tenancy.models import Project


class CloudOperations(Page):
    """Work under way, and work that has ended."""

    template = "dashboard/admin/operations.html"
    partials = {"operations": "dashboard/admin/_operations.html"}
    section = "operations"
    for_cloud_admins = True

    def get(self, request: HttpRequest) -> HttpResponse:
        wanted = request.GET.get("outcome", "live")
        found = Operation.objects.defer("history")
        if wanted == "live":
            found = found.filter(finished_at=None)
        elif wanted in Outcome.values:
            found = found.filter(outcome=wanted, finished_at__isnull=False)
        page = self.slice(found, ("-started_at", "-id"))
        names = dict(Project.objects.filter(pk__in={row.project_id for row in page["rows"]}).values_list("pk", "name"))
        for operation in page["rows"]:
            operation.project_name = names.get(operation.project_id, "")
        return self.show({**page, "wanted": wanted, "outcomes": Outcome.values})

    def post(self, request: HttpRequest) -> HttpResponse:
        ident = as_uuid(request.POST.get("operation", ""))
        found = Operation.objects.filter(pk=ident).first() if ident else None
        if found is None:
            raise NotFound()
        return self.mutate(
            lambda: engine.cancel(found.pk, actor=self.scope.actor),
            body={"operation": str(found.pk)},
            to=reverse("cloud-operations"),
            done="It is being cancelled.",
        )


class Audit(Page):
    """The event log of the cloud, newest first."""

    template = "dashboard/admin/audit.html"
    partials = {"activity": "dashboard/project/_activity.html"}
    section = "audit"
    for_cloud_admins = True

    def get(self, request: HttpRequest) -> HttpResponse:
        page = self.slice(narrow_events(rows.events(), request), ("-transaction", "-id"))
        names = dict(Project.objects.filter(pk__in={row.project_id for row in page["rows"]}).values_list("pk", "name"))
        for event in page["rows"]:
            event.project_name = names.get(event.project_id, "")
        return self.show({**page, "filters": request.GET, "whole_cloud": True})
