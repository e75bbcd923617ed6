from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class PagesConfig(AppConfig):
    name = "cloud.pages"
    label = "pages"

    def ready(self) -> None:
        """Let each app say what it adds to the frame: navigation, palette, links, words."""
        autodiscover_modules("pages.entries")
