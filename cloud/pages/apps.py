from django.apps import AppConfig


class PagesConfig(AppConfig):
    name = "cloud.pages"
    label = "pages"
