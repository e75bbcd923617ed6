"""The inbox: projects that ask for a larger quota, to be answered in one click."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.api.errors import NotFound
from cloud.api.translate import problem_of
from cloud.dashboard.views.quota import as_lines
from cloud.pages import forms
from cloud.pages.base import Page
from cloud.tenancy import quota_requests
from cloud.tenancy.api.quota_requests import ApproveForm, DeclineForm
from cloud.tenancy.models import QuotaRequest

MOST_OPEN = 50


class QuotaRequests(Page):
    """Those that wait for an answer, the oldest first; and those that have one."""

    template = "dashboard/admin/quota_requests.html"
    partials = {"quota-requests": "dashboard/admin/_quota_requests.html"}
    section = "quota-requests"
    for_cloud_admins = True

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.show(self.fill())

    def fill(self) -> dict[str, Any]:
        every = QuotaRequest.objects.select_related("project")
        waiting = every.filter(state=QuotaRequest.State.OPEN).order_by("created_at", "id")
        page = self.slice(every.exclude(state=QuotaRequest.State.OPEN), ("-created_at", "-id"), limit=20)
        for request in page["rows"]:
            as_lines(request)
        return {**page, "waiting": [as_lines(request) for request in waiting[:MOST_OPEN]]}


class AnswerQuotaRequest(QuotaRequests):
    """Approve or decline, with a note for those who asked."""

    http_method_names = ("post",)

    def post(self, request: HttpRequest, ident: str) -> HttpResponse:
        found = QuotaRequest.objects.select_related("project").filter(pk=ident).first()
        if found is None:
            raise NotFound()
        verb = "approve" if request.POST.get("verb") == "approve" else "decline"
        body = forms.texts(request.POST, "note") if verb == "approve" else forms.required(request.POST, "note")
        service = getattr(quota_requests, verb)
        try:
            form = self.validate(ApproveForm if verb == "approve" else DeclineForm, body)
            return self.mutate(
                lambda: service(request=found, actor=self.scope.actor, **form),
                body={"verb": verb, **body},
                to=reverse("quota-requests"),
                done=f"{found.project.name} has {found} now."
                if verb == "approve"
                else f"{found.project.name} is told.",
            )
        except Exception as error:
            problem = problem_of(error)
            context = {**self.fill(), "problem": problem, "answered": found.pk, "values": request.POST}
            return self.show(context, status=problem.status)
