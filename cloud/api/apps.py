from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "cloud.api"
    label = "api"
