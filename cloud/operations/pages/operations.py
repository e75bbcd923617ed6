"""Work under way, and work that has ended."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.operations import engine
from cloud.operations.models import Operation, Outcome
from cloud.pages import links
from cloud.pages.base import Page
from cloud.pages.generic import VerbPage
from cloud.pages.rows import find
from cloud.tenancy.models import Project


class CloudOperations(Page):
    """All of the cloud; those that are live can be cancelled."""

    template = "operations/operations.html"
    partials = {"operations": "operations/_operations.html"}
    section = "operations"
    help = "operating#audit"
    for_cloud_admins = True

    def get(self, request: HttpRequest) -> HttpResponse:
        wanted = request.GET.get("outcome", "live")
        found = Operation.objects.defer("history")
        if wanted == "live":
            found = found.filter(finished_at=None)
        elif wanted in Outcome.values:
            found = found.filter(outcome=wanted, finished_at__isnull=False)
        page = self.slice(found, ("-started_at", "-id"))
        names = Project.objects.filter(pk__in={row.project_id for row in page["rows"]}).values_list("pk", "name")
        return self.show({**page, "wanted": wanted, "outcomes": Outcome.values, "project_names": dict(names)})

    def post(self, request: HttpRequest) -> HttpResponse:
        operation = find(Operation.objects.all(), request.POST.get("operation", ""))
        return self.mutate(
            lambda: engine.cancel(operation.pk, actor=self.scope.actor),
            body={"operation": str(operation.pk)},
            to=reverse("cloud-operations"),
            done="It is being cancelled.",
        )


class CancelOperation(VerbPage):
    """Asks an operation of a project to give up."""

    model, key = Operation, "operation"

    def after(self) -> str:
        about = links.of(self.item.subject_type, self.item.subject_id, self.project.name)
        return about or self.route("overview")

    def act(self) -> None:
        engine.cancel(self.item.pk, actor=self.scope.actor)

    def done(self, result: None) -> str:
        return "It is being cancelled."
