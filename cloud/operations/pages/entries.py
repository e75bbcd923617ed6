"""What operations and the cloud's health add to the frame of the pages."""

from django.db.models import Q
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cloud.operations.models import Check
from cloud.pages import links, navigation, words
from cloud.pages.navigation import Place

navigation.register(
    Place("health", "Health", "health", icon="pulse", key="e", order=10, for_cloud_admins=True),
    Place("operations", "Operations", "cloud-operations", icon="cog", key="w", order=80, for_cloud_admins=True),
)
navigation.register_waiting("health", lambda: Check.objects.filter(Q(count__gt=0) | ~Q(problem="")))
links.register("operation", "cloud-operations", in_project=False, has_item=False, query="?outcome=all")
words.tones("good", "done")
words.tones("bad", "failed")
words.tones("idle", "cancelled", "superseded")
words.VERBS["repair"] = "asked to repair"


def finished(told: words.Telling) -> SafeString:
    what = words.OPERATIONS.get(told.after.get("kind", ""), "Work on").lower().capitalize()
    name, outcome = (told.after.get("subject") or {}).get("name", ""), told.after.get("outcome", "finished")
    return format_html('<span class="strong">{} {}</span>: {}', what, name, outcome)


words.SENTENCES["operations.operation.finish"] = finished
