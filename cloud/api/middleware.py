"""What every request goes through: an id that follows it everywhere, a time, and problems in one form."""

import re
import sys
import time
import uuid
from collections.abc import Callable

import structlog
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, HttpResponseServerError

from cloud import intake, problems
from cloud.api import metrics
from cloud.api.parsers import too_large
from cloud.api.translate import PROBLEM_JSON, plain_response, problem_of

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
PROBLEM_BY_STATUS: dict[int, type[problems.Problem]] = {
    400: problems.Invalid,
    401: problems.Unauthenticated,
    403: problems.Forbidden,
    404: problems.NotFound,
    405: problems.MethodNotAllowed,
    413: problems.TooLarge,
    415: problems.UnsupportedMediaType,
    503: problems.Unavailable,
}
WORDS = {404: "No call of the API has this address. GET /api/v1/schema lists all of them."}
PLAIN = {"Accept-Encoding": "identity"}
MACHINE_PATHS = re.compile(r"/+(api|agent)/")  # also of an address that was put together with one slash too many
Next = Callable[[HttpRequest], HttpResponse]


class RequestContext:
    """Gives each request an id (the caller's X-Request-ID when it is sound), tells the logs, and measures."""

    def __init__(self, get_response: Next):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex  # type: ignore[attr-defined]
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request.request_id)  # type: ignore[attr-defined]
        began = time.perf_counter()
        response = self.get_response(request)
        metrics.observe_request(request, response, time.perf_counter() - began)
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        return response


class HeadCheck:
    """What is refused by its head alone: a body that is too large or packed, and a name that this cloud has not."""

    def __init__(self, get_response: Next):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            self.check(request)
        except (problems.Problem, DisallowedHost) as refused:
            return plain_response(problem_of(refused), request)
        return self.get_response(request)

    def check(self, request: HttpRequest) -> None:
        """Raises Problem, DisallowedHost."""
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not intake.is_streamed(request.META) and length.isdigit() and int(length) > settings.API_MAX_BODY_BYTES:
            raise too_large()
        request.get_host()
        if length == "0" and not intake.is_streamed(request.META):
            return  # headers about a body mean nothing without one
        packed = request.META.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
        if packed != "identity":
            raise problems.UnsupportedMediaType(f"Send the body as it is, not as {packed[:40]}.", headers=PLAIN)
        if (charset := (request.content_params or {}).get("charset", "utf-8").lower()) not in ("utf-8", "utf8"):
            raise problems.UnsupportedMediaType(f"Send UTF-8, not {charset[:40]}.")


class Problems:
    """Below /api/ and /agent/ every refusal is a problem document, wherever it comes from."""

    def __init__(self, get_response: Next):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code < 400 or not MACHINE_PATHS.match(request.path) or response.streaming:
            return response
        if response.headers.get("Content-Type", "").startswith(("application/json", PROBLEM_JSON)):
            return response
        problem = PROBLEM_BY_STATUS.get(response.status_code, problems.Internal)(WORDS.get(response.status_code, ""))
        replacement = plain_response(problem, request)
        for header in ("Allow", "Retry-After"):
            if header in response:
                replacement[header] = response[header]
        return replacement

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not MACHINE_PATHS.match(request.path):
            return None
        return plain_response(problem_of(exception), request)


def server_error(request: HttpRequest) -> HttpResponse:
    """`handler500`: what goes wrong outside of the views, e.g. a session read while the database restarts."""
    problem = problem_of(sys.exc_info()[1] or problems.Internal())
    if MACHINE_PATHS.match(request.path):
        return plain_response(problem, request)
    page = HttpResponseServerError(
        f"<!doctype html><title>Pileus</title><h1>{problem.title}</h1><p>{problem.detail}</p>"
        f"<p>Request {getattr(request, 'request_id', '')}</p>",
        status=problem.status,
    )
    for name, value in problem.headers.items():
        page[name] = value
    return page
