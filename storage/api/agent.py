"""The part of the agent API that is about storage: the files that images are made of."""

import re

from django.conf import settings
from django.http import FileResponse, Http404
from django.urls import path
from rest_framework.request import Request

from cloud.hosts.agent_api.views import AgentView
from storage import files


class FileView(AgentView):
    """A file that an image is made of, by its SHA-256. 404 for one that nothing on the asking host needs."""

    def get(self, request: Request, sha256: str) -> FileResponse:
        store = settings.IMAGE_STORE / sha256
        if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not files.may_fetch(self.host, sha256) or not store.is_file():
            raise Http404
        return FileResponse(store.open("rb"), content_type="application/octet-stream")


urlpatterns = [
    path("files/<str:sha256>", FileView.as_view()),
]
