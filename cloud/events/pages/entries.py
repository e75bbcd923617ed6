"""What the event log adds to the frame of the pages."""

from cloud.pages import navigation
from cloud.pages.navigation import Place

navigation.register(
    Place("activity", "Activity", "activity", icon="activity", key="a", order=60),
    Place("audit", "Audit", "audit", icon="book", key="l", order=90, for_cloud_admins=True),
)
