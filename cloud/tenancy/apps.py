from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class TenancyConfig(AppConfig):
    name = "cloud.tenancy"
    label = "tenancy"

    def ready(self) -> None:
        autodiscover_modules("quota", "new_projects")
