"""The part of the agent API that is about storage: files of images, for and from the hosts that need or make them."""

from uuid import UUID

from django.db import transaction
from django.http import Http404
from django.http.response import HttpResponseBase
from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud import intake, outgoing
from cloud.hosts.agent_api.views import AgentView
from cloud.problems import Invalid, Unavailable
from storage import fetching, files, importing
from storage.models import ImageImport, Layer
from storage.models.images import GIB
from storage.services import images
from storage.store import SHA256, incoming, store

MAX_FILES = 32  # of one image
MAX_COUNT = 2**62
LATER = 202  # of a body that has yet to come; nobody hears it


class FileView(AgentView):
    """A file that an image is made of, by its SHA-256. 404 for one that nothing on the asking host needs."""

    def get(self, request: Request, sha256: str) -> HttpResponseBase:
        if not SHA256.fullmatch(sha256) or not files.may_fetch(self.host, sha256):
            raise Http404
        try:
            file = store().open(sha256)
        except FileNotFoundError:
            raise Http404 from None
        return outgoing.answer(request._request.META, file, owner=f"host:{self.host.pk}")


class OfImport(AgentView):
    """What a host does for what it has been ordered to make; 404 once that is not wanted any more."""

    def row(self, row_id: UUID) -> ImageImport:
        rows = ImageImport.objects.select_related("image__upload", "export").filter(
            pk=row_id, host=self.host, wanted=True
        )
        found = rows.first()
        if found is None:
            raise Http404
        return found


class UploadView(OfImport):
    """What the image's owner has sent."""

    def get(self, request: Request, row_id: UUID) -> HttpResponseBase:
        image = self.row(row_id).image
        upload = getattr(image, "upload", None)
        if upload is None or upload.completed_at is None:
            raise Http404
        try:
            file = upload.path.open("rb")
        except FileNotFoundError:
            raise Http404 from None
        return outgoing.answer(request._request.META, file, owner=f"host:{self.host.pk}")


class Progress(serializers.Serializer):
    phase = serializers.CharField(max_length=40)
    done = serializers.FloatField(min_value=0, max_value=MAX_COUNT)
    of = serializers.IntegerField(min_value=0, max_value=MAX_COUNT, allow_null=True, default=None)
    unit = serializers.CharField(max_length=16)


class ProgressView(OfImport):
    def put(self, request: Request, row_id: UUID) -> Response:
        importing.note_progress(self.row(row_id), **self.form(Progress))
        return Response(status=204)


class Merged(serializers.Serializer):
    percent = serializers.IntegerField(min_value=0, max_value=100)


class MergeProgressView(AgentView):
    """How far a host is that makes one layer of several; 404 once it has it."""

    def put(self, request: Request, layer_id: UUID) -> Response:
        layer = Layer.objects.filter(pk=layer_id, host=self.host).exclude(merges=[]).first()
        if layer is None:
            raise Http404
        fetching.note(layer, **self.form(Merged))
        return Response(status=204)


class ResultView(OfImport):
    """A file that an image is to be made of. It is counted and hashed here, and is in the store before the answer."""

    def put(self, request: Request, row_id: UUID, index: int) -> Response:
        row = self.row(row_id)
        made = row.image or row.export
        if made is None:
            raise Http404
        told = request.headers.get("X-Content-SHA256", "")
        if not SHA256.fullmatch(told) or index >= MAX_FILES:
            raise Invalid("X-Content-SHA256 has 64 lower-case hexadecimal digits.")

        def place() -> intake.Intake:
            left = images.quota_left(made)
            limit = intake.NO_LIMIT if left is None else left * GIB - sum(file["size"] for file in row.files)
            path = incoming() / f"{row.pk}.{index}"
            why = "That is what the project's quota of image_gib has left for the result."
            return intake.Intake(path, limit=max(0, limit), owner=f"host:{self.host.pk}", hashes=("sha256",), why=why)

        try:
            received = intake.take(request._request.META, place)
        except intake.Busy as busy:  # this host's own, whose line was cut: it will be noticed
            raise Unavailable(busy.detail) from busy
        if received is None:
            return Response(status=LATER)
        if received.digests["sha256"] != told:
            received.path.unlink(missing_ok=True)
            raise Unavailable("What came is not what was sent. Send it again.")
        store().keep(received.path, told)
        self._write(row_id, index, told, received.size)
        return Response({"sha256": told, "size": received.size}, status=201)

    @transaction.atomic
    def _write(self, row_id: UUID, index: int, sha256: str, size: int) -> None:
        files.lock(sha256)
        rows = ImageImport.objects.select_for_update().filter(pk=row_id, host=self.host, wanted=True)
        row = rows.first()
        if row is None:
            files.let_go(sha256)
            return
        if not store().has(sha256):
            raise Unavailable("It has left the store again. Send it again.")
        others = [file for file in row.files if file["index"] != index]
        row.files = [*others, {"index": index, "sha256": sha256, "size": size}]
        row.save(update_fields=["files"])


urlpatterns = [
    path("files/<str:sha256>", FileView.as_view()),
    path("uploads/<uuid:row_id>", UploadView.as_view()),
    path("imports/<uuid:row_id>/progress", ProgressView.as_view()),
    path("merges/<uuid:layer_id>/progress", MergeProgressView.as_view()),
    path("imports/<uuid:row_id>/files/<int:index>", ResultView.as_view()),
]
