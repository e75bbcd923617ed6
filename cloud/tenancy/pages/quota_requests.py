"""The inbox: projects that ask for a larger quota, to be answered in one click."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from cloud.api.translate import problem_of
from cloud.pages import forms
from cloud.pages.generic import ItemPage, ListPage, ResourcePage
from cloud.tenancy import quota_requests
from cloud.tenancy.api.quota_requests import ApproveForm, DeclineForm
from cloud.tenancy.models import QuotaRequest

MAX_OPEN = 50
OPEN = QuotaRequest.State.OPEN


class QuotaRequestPage(ResourcePage):
    model, key, title = QuotaRequest, "ident", "Requests"
    listed_at = section = "quota-requests"
    help = "operating#everyday"
    for_cloud_admins = True

    def rows(self) -> "QuerySet[QuotaRequest]":
        return QuotaRequest.objects.select_related("project")


class QuotaRequests(QuotaRequestPage, ListPage):
    """Those that wait for an answer, the oldest first; and those that have one."""

    template = "tenancy/admin/quota_requests.html"
    partials = {"quota-requests": "tenancy/admin/_quota_requests.html"}
    sorts = {"asked": "-created_at"}
    sort, limit = "asked", 20
    searched = ("project__name",)

    def narrow(self, found: "QuerySet[Any]") -> "QuerySet[Any]":
        return super().narrow(found).exclude(state=OPEN)

    def fill(self) -> dict[str, Any]:
        waiting = self.rows().filter(state=OPEN).order_by("created_at", "id")
        return {**super().fill(), "waiting": list(waiting[:MAX_OPEN])}


class AnswerQuotaRequest(QuotaRequests, ItemPage):
    """Approve or decline, with a note for those who asked."""

    http_method_names = ("post",)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        verb = "approve" if request.POST.get("verb") == "approve" else "decline"
        body = forms.texts(request.POST, "note") if verb == "approve" else forms.required(request.POST, "note")
        service = getattr(quota_requests, verb)
        name = self.item.project.name
        try:
            form = self.validate(ApproveForm if verb == "approve" else DeclineForm, body)
            return self.mutate(
                lambda: service(request=self.item, actor=self.scope.actor, **form),
                body={"verb": verb, **body},
                to=self.the_list,
                done=f"{name} has {self.item} now." if verb == "approve" else f"{name} is told.",
            )
        except Exception as error:
            problem = problem_of(error)
            context = {**self.fill(), "problem": problem, "answered": self.item.pk, "values": request.POST}
            return self.show(context, status=problem.status)
