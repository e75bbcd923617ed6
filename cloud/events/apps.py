from django.apps import AppConfig


class EventsConfig(AppConfig):
    name = "cloud.events"
    label = "events"
