from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.module_loading import import_string


class EventsConfig(AppConfig):
    name = "cloud.events"
    label = "events"

    def ready(self) -> None:
        post_migrate.connect(import_string("cloud.events.place.note_place"), sender=self)
