"""What templates may say about requests for quota."""

from django import template

from cloud.pages import words
from cloud.tenancy.models import QuotaRequest

register = template.Library()


@register.filter
def lines(request: QuotaRequest) -> list[tuple[str, int | None, int]]:
    """What is asked for, line by line: kind, limit then, limit wanted."""
    return [(kind, request.before[kind], wanted) for kind, wanted in words.ordered(request.limits)]
