"""The rate limit of pages: the same bucket as the API's, by user, or by address for strangers."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from cloud.api import limits
from cloud.api.addresses import address, counted_as
from cloud.api.middleware import MACHINE_PATHS
from cloud.pages.refusals import refusal
from cloud.tenancy.models import User


class PageLimits:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/healthz" or MACHINE_PATHS.match(request.path):
            return self.get_response(request)
        known = isinstance(request.user, User)
        verdict = limits.take(f"user:{request.user.pk}" if known else f"address:{counted_as(address(request))}")
        return self.get_response(request) if verdict.allowed else refusal(request, verdict.refusal())
