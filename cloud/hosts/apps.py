from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class HostsConfig(AppConfig):
    name = "cloud.hosts"
    label = "hosts"

    def ready(self) -> None:
        autodiscover_modules("hosted")
