"""/api/v1/schema, the OpenAPI document. The dashboard has it as pages, at /api/v1/docs."""

import json
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

OPENAPI_JSON = "application/vnd.oai.openapi+json"


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document: made once, as it changes only with the code."""
    from drf_spectacular.generators import SchemaGenerator  # noqa: PLC0415  # 5 MiB that few ask for

    return dict(SchemaGenerator().get_schema(request=None, public=True))


@cache
def text() -> str:
    return json.dumps(document(), indent=1, default=str)


@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    return HttpResponse(text(), content_type=OPENAPI_JSON)


urlpatterns = [
    path("schema", schema, name="api-schema"),
]
