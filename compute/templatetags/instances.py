"""What templates about instances may say: why their status is as it is, and the buttons of a row."""

from typing import Any

from django import template
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cloud.pages.templatetags.pages import icon
from compute import ssh
from compute.models import Instance
from compute.pages.actions import Action, actions_for, main_of
from compute.status import reason

register = template.Library()

register.filter("fingerprint", ssh.fingerprint)
register.filter("reason", reason)

register.filter("main_action", main_of)

BOOT = {
    "asked": "Asked for",
    "placed": "Placed on a host",
    "ordered": "Ordered from the host",
    "started": "Machine started",
    "kernel": "Kernel began",
    "ready": "The guest says READY",
}


@register.filter
def boot_words(name: str) -> str:
    """A step of a start, as people call it."""
    return BOOT[name]


@register.filter
def row_actions(instance: Instance, role: str) -> list[Action]:
    """The buttons of a row in the list, for a member with this role."""
    return [action for action in actions_for(instance, role=role).values() if action.verb.in_rows]


DISABLED = """<span class="why"><button class="button small quiet square" type="button" aria-disabled="true"
 aria-label="{label}" aria-describedby="{ident}">{icon}</button><span class="why-words" role="tooltip" id="{ident}"
>{why}</span></span>"""
LINK = (
    """<a class="button small quiet square" href="{url}" data-dialog title="{verb}" aria-label="{label}">{icon}</a>"""
)
FORM = """<form class="inline-form" method="post" action="{url}"><input type="hidden" name="csrfmiddlewaretoken"
 value="{token}"><input type="hidden" name="form_key" value="{key}"><input type="hidden" name="to" value="{to}"
><button class="button small quiet square" title="{verb}" aria-label="{label}">{icon}</button></form>"""


@register.simple_tag(takes_context=True)
def small_action(context: Any, action: Action, instance: Any) -> SafeString:
    """A verb in a row of a list. In Python, as there are some hundreds of them on a page."""
    verb = action.verb
    label = f"{verb.label} {instance.name}"
    if action.why_not:
        ident = f"why-{instance.pk}-{verb.name}"
        return format_html(DISABLED, label=label, ident=ident, icon=icon(verb.icon), why=action.why_not)
    there = context["request"].path if context["project"] else reverse("instances", args=[instance.project.name])
    url = f"{there}/{instance.pk}/{verb.name}"
    if verb.asks:
        return format_html(LINK, url=url, verb=verb.label, label=label, icon=icon(verb.icon))
    return format_html(
        FORM, url=url, token=context["csrf_token"], key=context["form_key"], to=context["page_path"], verb=verb.label,
        label=label, icon=icon(verb.icon),
    )  # fmt: skip
