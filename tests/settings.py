"""The settings of the tests: the cloud's, one app more, whose resources are no machines (tests.things), and stores of
images and backups for each of those that run side by side: one's sweep would take another's files for lost ones.
"""

import os
from pathlib import Path

from cloud.settings import *  # noqa: F403
from cloud.settings import BACKUP_STORE as SHARED_BACKUPS
from cloud.settings import DATABASES
from cloud.settings import IMAGE_STORE as SHARED_STORE
from cloud.settings import INSTALLED_APPS as OF_THE_CLOUD

INSTALLED_APPS = [*OF_THE_CLOUD, "tests.things"]
IMAGE_STORE = Path(SHARED_STORE)
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and IMAGE_STORE.name != worker:
    IMAGE_STORE /= worker
    os.environ["PILEUS_IMAGE_STORE"] = str(IMAGE_STORE)  # programs that tests start have the same
if template := os.environ.get("PILEUS_TESTS_TEMPLATE"):  # a database that is migrated already
    DATABASES["default"]["TEST"] = {"TEMPLATE": template, "MIGRATE": False}
BACKUP_STORE = Path(SHARED_BACKUPS)
if worker and BACKUP_STORE.name != worker:
    BACKUP_STORE /= worker
    os.environ["PILEUS_BACKUP_STORE"] = str(BACKUP_STORE)
