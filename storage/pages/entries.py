"""What storage adds to the frame of the pages."""

from cloud.pages import navigation
from cloud.pages.navigation import Place

navigation.register(Place("images", "Images", "images", icon="cube", key="d", order=30))
