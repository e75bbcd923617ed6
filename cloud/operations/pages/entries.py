"""What operations and the cloud's health add to the frame of the pages."""

from django.db.models import Q

from cloud.operations.models import Check
from cloud.pages import links, navigation
from cloud.pages.navigation import Place

navigation.register(
    Place("health", "Health", "health", icon="pulse", key="e", order=10, for_cloud_admins=True),
    Place("operations", "Operations", "cloud-operations", icon="cog", key="w", order=80, for_cloud_admins=True),
)
navigation.register_waiting("health", lambda: Check.objects.filter(Q(count__gt=0) | ~Q(problem="")))
links.register("operation", "cloud-operations", in_project=False, has_item=False, query="?outcome=all")
