from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class OperationsConfig(AppConfig):
    name = "cloud.operations"
    label = "operations"

    def ready(self) -> None:
        from cloud.celery import app
        from cloud.operations import clock
        from cloud.operations.tasks import BrokerlessSweep

        autodiscover_modules("workflows")
        clock.connect()
        app.steps["worker"].add(BrokerlessSweep)
