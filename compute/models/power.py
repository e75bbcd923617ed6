"""The states of a machine, and when it is started again."""

from django.db import models


class Power(models.TextChoices):
    """What a machine should be, or was last seen to be."""

    UNKNOWN = "unknown"
    RUNNING = "running"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    BROKEN = "broken"
    GONE = "gone"


WISHES = (Power.RUNNING, Power.PAUSED, Power.SUSPENDED, Power.STOPPED)


class RestartPolicy(models.TextChoices):
    """Whether a machine that ended without being told to is started again."""

    ON_CRASH = "on_crash"
    NEVER = "never"
    ALWAYS = "always"
