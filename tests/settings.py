"""The settings of the tests: the cloud's, and one app more, whose resources are no machines (tests.things)."""

from cloud.settings import *  # noqa: F403
from cloud.settings import INSTALLED_APPS as OF_THE_CLOUD

INSTALLED_APPS = [*OF_THE_CLOUD, "tests.things"]
