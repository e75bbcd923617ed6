"""The part of the agent API that is about instances: the end of each serial log, and what machines use."""

import re
from typing import Any, cast
from uuid import UUID

from django.http import Http404
from django.urls import path
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.hosts.agent_api.views import AgentView
from cloud.problems import Fault, Invalid
from compute import console_logs, samples

MAX_LOG = 64 * 1024
MAX_SAMPLES = 10_000


class Bytes(BaseParser):
    """A raw body, of which no more is read than is kept."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        return bytes(stream.read(MAX_LOG))


class PushConsoleLog(AgentView):
    parser_classes = (Bytes,)

    def put(self, request: Request, instance_id: UUID) -> Response:
        offset = request.headers.get("X-Log-Offset", "0")
        if not re.fullmatch("[0-9]+", offset) or not console_logs.keep(
            host=self.host, instance_id=instance_id, offset=int(offset[:18]), content=cast(bytes, request.data)
        ):
            raise Http404
        return Response(status=204)


class PushSamples(AgentView):
    def post(self, request: Request) -> Response:
        told = request.data if isinstance(request.data, dict) else {}
        both = {"samples": told.get("samples"), "devices": told.get("devices", [])}
        for name, found in both.items():
            if not isinstance(found, list) or len(found) > MAX_SAMPLES:
                raise Invalid(errors=[Fault(f"/{name}", f"A list of at most {MAX_SAMPLES} samples.")])
        return Response({"kept": samples.take_in(host=self.host, **both)})


urlpatterns = [
    path("console-logs/<uuid:instance_id>", PushConsoleLog.as_view()),
    path("samples", PushSamples.as_view()),
]
