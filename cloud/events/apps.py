from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.module_loading import import_string


class EventsConfig(AppConfig):
    name = "cloud.events"
    label = "events"

    def ready(self) -> None:
        for what in ("place.note_place", "role.grant"):
            post_migrate.connect(import_string(f"cloud.events.{what}"), sender=self)
