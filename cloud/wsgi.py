"""The web process: REST API, dashboard and agent API, served by gunicorn."""

import os

from django.core.wsgi import get_wsgi_application

from cloud.api import patience

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cloud.settings")
application = get_wsgi_application()
patience.be_impatient()
