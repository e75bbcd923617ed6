from django.apps import AppConfig


class DashboardConfig(AppConfig):
    name = "cloud.dashboard"
    label = "dashboard"

    def ready(self) -> None:
        from cloud.dashboard import entries  # noqa: F401, PLC0415  # it registers
