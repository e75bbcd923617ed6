from django.apps import AppConfig


class TenancyConfig(AppConfig):
    name = "cloud.tenancy"
    label = "tenancy"
