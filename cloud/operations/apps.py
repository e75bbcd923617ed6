from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class OperationsConfig(AppConfig):
    name = "cloud.operations"
    label = "operations"

    def ready(self):
        autodiscover_modules("workflows")
        autodiscover_modules("reports")
