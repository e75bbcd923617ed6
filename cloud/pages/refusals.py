"""Pages for what goes wrong before a page begins, or in the middle of it."""

import sys

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render

from cloud import problems
from cloud.api import middleware
from cloud.api.translate import problem_of
from cloud.pages.base import KEEP_THE_PART, theme_of
from cloud.pages.views import Nowhere
from cloud.problems import Problem
from cloud.tenancy.models import User


class SentFromElsewhere(problems.Forbidden):
    """The form did not come from a page of this cloud, or its cookie is gone."""

    title = "This form cannot be trusted"
    fix_by = "you"


def refusal(request: HttpRequest, problem: Problem) -> HttpResponse:
    """A page that needs neither database nor session."""
    context = {"problem": problem, "request_id": getattr(request, "request_id", ""), "theme": theme_of(request)}
    response = render(request, "pages/bare_refusal.html", context, status=problem.status)
    for name, value in {**problem.headers, **KEEP_THE_PART}.items():
        response[name] = value
    response["Cache-Control"] = "no-store"
    return response


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    may_be_meant = request.path.startswith(("/projects/", "/cloud/"))  # with a name in it, for who has signed in
    if may_be_meant or isinstance(getattr(request, "user", None), User):
        return Nowhere.as_view()(request)
    return refusal(request, problems.NotFound("There is no page at this address."))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return refusal(request, problems.Forbidden())


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return refusal(request, problems.Invalid())


def server_error(request: HttpRequest) -> HttpResponse:
    if middleware.MACHINE_PATHS.match(request.path):
        return middleware.server_error(request)
    return refusal(request, problem_of(sys.exc_info()[1] or problems.Internal()))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return refusal(
        request,
        SentFromElsewhere("Go back, reload the page and send it again. Cookies must be allowed for this address."),
    )
