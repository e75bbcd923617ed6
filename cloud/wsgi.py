"""The web process: REST API, dashboard and agent API, served by gunicorn."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from cloud.api import patience

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cloud.settings")
application = get_wsgi_application()
_ = settings.SECRET_KEY  # without one it fails now, not with the first visitor
patience.be_impatient()
