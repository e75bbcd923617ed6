"""What a project may have, what it has, and asking the cloud's admins for more."""

from typing import Any

from django.http import HttpResponse
from django.urls import reverse

from cloud.pages import forms, words
from cloud.pages.base import FormPage
from cloud.pages.generic import VerbPage
from cloud.tenancy import quota, quota_requests
from cloud.tenancy.api.quota_requests import QuotaRequestForm
from cloud.tenancy.models import QuotaRequest

MAX_REQUESTS = 10
USUAL = ("instances", "vcpus", "memory_mib")


def in_use(usage: dict[str, Any], *, every: bool = False) -> list[dict[str, Any]]:
    """A quota's kinds as meters. Those whose resources do not exist yet are left out, unless every one is wanted."""
    shown = (*USUAL, "keypairs")
    return [{"kind": kind, **use} for kind, use in words.ordered(usage) if every or kind in shown or use["used"]]


class Quota(FormPage):
    template = "tenancy/project/quota.html"
    partials = {"quota": "tenancy/project/_quota.html"}
    section = "quota"
    help = "projects#quota"

    def fill(self) -> dict[str, Any]:
        usage = in_use(quota.usage(self.project), every=True)
        asked = QuotaRequest.objects.filter(project=self.project).order_by("-created_at", "-id")
        limited = [use for use in usage if use["limit"] is not None]
        return {
            "usage": usage,
            "requests": list(asked[:MAX_REQUESTS]),
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


class WithdrawQuotaRequest(VerbPage):
    model, key, listed_at = QuotaRequest, "ident", "quota"

    def act(self) -> Any:
        return quota_requests.withdraw(request=self.item, actor=self.scope.actor)

    def done(self, result: Any) -> str:
        return "It is taken back."
