from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class CostsConfig(AppConfig):
    name = "cloud.costs"
    label = "costs"

    def ready(self) -> None:
        autodiscover_modules("prices")
