"""What a project may have, what it has, and asking the cloud's admins for more."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.api.errors import NotFound
from cloud.pages import forms, words
from cloud.pages.base import FormPage, Page
from cloud.tenancy import quota, quota_requests
from cloud.tenancy.api.quota_requests import QuotaRequestForm
from cloud.tenancy.models import QuotaRequest

MOST_REQUESTS = 10
USUAL = ("instances", "vcpus", "memory_mib")


def in_use(usage: dict[str, Any], *, every: bool = False) -> list[dict[str, Any]]:
    """A quota's kinds as meters. Those whose resources do not exist yet are left out, unless every one is wanted."""
    shown = (*USUAL, "keypairs")
    return [{"kind": kind, **use} for kind, use in words.ordered(usage) if every or kind in shown or use["used"]]


def as_lines(request: QuotaRequest) -> QuotaRequest:
    """With what is asked for as lines: kind, limit then, limit wanted."""
    request.lines = [  # type: ignore[attr-defined]
        {"kind": kind, "before": request.before[kind], "wanted": wanted}
        for kind, wanted in words.ordered(request.limits)
    ]
    return request


class Quota(FormPage):
    template = "dashboard/project/quota.html"
    partials = {"quota": "dashboard/project/_quota.html"}
    section = "quota"

    def fill(self) -> dict[str, Any]:
        usage = in_use(quota.usage(self.project), every=True)
        asked = QuotaRequest.objects.filter(project=self.project).order_by("-created_at", "-id")
        limited = [use for use in usage if use["limit"] is not None]
        return {
            "usage": usage,
            "requests": [as_lines(request) for request in asked[:MOST_REQUESTS]],
            "usual": [use for use in limited if use["kind"] in USUAL],
            "others": [use for use in limited if use["kind"] not in USUAL],
        }

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        return {**forms.whole(post, *quota.usage(self.project)), **forms.texts(post, "reason")}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        def ask() -> QuotaRequest:
            wanted = self.validate(QuotaRequestForm, body)
            reason = wanted.pop("reason", "")
            return quota_requests.ask(project=self.project, actor=self.scope.actor, limits=wanted, reason=reason)

        return self.mutate(
            ask,
            body=body,
            to=reverse("quota", args=[self.project.name]),
            done="The admins of the cloud see it now. The answer will be here.",
        )


class WithdrawQuotaRequest(Page):
    def post(self, request: HttpRequest, project: str, ident: str) -> HttpResponse:
        found = QuotaRequest.objects.filter(project=self.project, pk=ident).first()
        if found is None:
            raise NotFound()
        return self.mutate(
            lambda: quota_requests.withdraw(request=found, actor=self.scope.actor),
            to=reverse("quota", args=[self.project.name]),
            done="It is taken back.",
        )
