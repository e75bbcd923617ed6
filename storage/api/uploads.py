"""The content of an image on its way in: `PUT …/images/{i}/file` in one request, or in pieces by the protocol tus 1.0.

Bodies go into a file while they arrive (cloud/intake.py). tus (https://tus.io/protocols/resumable-upload) has the
extensions creation, checksum, termination and expiration.
"""

import base64
import binascii
import re
from email.utils import format_datetime
from typing import Any

from django.conf import settings
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from cloud import intake
from cloud.api.addresses import absolute
from cloud.api.views import View
from cloud.problems import Conflict, Fault, Invalid, Problem, UnsupportedMediaType
from storage import uploads
from storage.api.image_fields import ImageForm
from storage.api.images import ImageView, require_own
from storage.models import Image, Upload
from storage.models.images import GIB
from storage.services import images

TUS = "1.0.0"
HASHES = ("sha1", "sha256")
WHY = "That is what was announced, or what the project's quota of image_gib has left, or the cloud's own limit."
LATER = 202  # what a view says of a body that has yet to come; nobody hears it


class ChecksumMismatch(Problem):
    """What came is not what was sent: nothing of it is kept."""

    status = 460  # as tus has it
    code = "checksum_mismatch"
    title = "What came is not what was sent"
    retryable = True


class Waiting(ImageView, View):
    """An image that waits for its content."""

    def image(self, reference: str) -> Image:
        image: Image = self.one(reference)
        require_own(self.scope, image)
        return image

    def waiting(self, reference: str) -> tuple[Image, Upload]:
        """Raises NotFound, Forbidden, WrongState."""
        image = self.image(reference)
        upload = getattr(image, "upload", None)
        if upload is None or upload.completed_at is not None:
            raise images.not_waiting(image)
        return image, upload

    def _environ(self, request: Request) -> dict[str, Any]:
        return request._request.META


class ImageFile(Waiting):
    """The content of an image that waits for it."""

    @extend_schema(request={"application/octet-stream": OpenApiTypes.BINARY})
    def put(self, request: Request, project: str, ref: str) -> Response:
        """All of the content, as it is: with Content-Length, or in chunks. What was sent before is replaced."""
        if self.is_dry:
            raise Invalid("Only sending a file shows what becomes of it.")
        image, upload = self.waiting(ref)

        def place() -> intake.Intake:
            limit = uploads.limit(upload, images.quota_left(image))
            return intake.Intake(
                upload.path,
                limit=limit,
                owner=f"project:{image.project_id}",
                why=WHY,
                still=lambda: images.require_waiting(image),
            )

        received = intake.take(self._environ(request), place)
        if received is None:
            return Response(status=LATER)
        return self.mutate(lambda: images.complete(image=image, actor=self.actor, received=received.size))


class Tus(Waiting):
    """The same content in pieces, by the protocol tus 1.0."""

    @extend_schema(exclude=True)
    def head(self, request: Request, project: str, ref: str) -> Response:
        """How much is there, as tus asks it."""
        _, upload = self.waiting(ref)
        length = {"Upload-Defer-Length": "1"} if upload.size is None else {"Upload-Length": str(upload.size)}
        return self._answer_tus(200, upload, **length, **{"Cache-Control": "no-store"})

    @extend_schema(exclude=True)
    def patch(self, request: Request, project: str, ref: str) -> Response:
        """The next piece, as tus sends it. With the last one the import begins."""
        if request.content_type != "application/offset+octet-stream":
            raise UnsupportedMediaType("Send a piece as application/offset+octet-stream.")
        _require_tus(request)
        image, upload = self.waiting(ref)
        size = self._size(request, upload)
        checksum = _checksum(request)

        def place() -> intake.Intake:
            offset = _number(request, "Upload-Offset")
            if offset != upload.received:
                raise Conflict(f"{upload.received} bytes are here: go on from there, not from {offset}.")
            return intake.Intake(
                upload.path,
                offset=offset,
                limit=max(0, uploads.limit(upload, images.quota_left(image)) - offset),
                owner=f"project:{image.project_id}",
                keeps_part=checksum is None,  # a part cannot be checked
                hashes=(checksum[0],) if checksum else (),
                why=WHY,
                still=lambda: images.require_waiting(image),
            )

        received = intake.take(self._environ(request), place)
        if received is None:
            return Response(status=LATER)
        if checksum and received.digests[checksum[0]] != checksum[1]:
            received.undo()
            raise ChecksumMismatch(f"Its {checksum[0]} is another one. Send this piece again.")
        uploads.prolong(upload)
        if size is not None and upload.received == size:
            self.mutate(lambda: images.complete(image=image, actor=self.actor, received=size))
        return self._answer_tus(204, upload)

    @extend_schema(exclude=True)
    def delete(self, request: Request, project: str, ref: str) -> Response:
        """Give it up, as tus has it: the image goes, too."""
        _require_tus(request)
        image, upload = self.waiting(ref)
        self.mutate(lambda: images.delete(image=image, actor=self.actor))
        return self._answer_tus(204, upload)

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        return Response(status=204, headers=_about())

    def _size(self, request: Request, upload: Upload) -> int | None:
        """Of all of it; with a length that was not known before, it is now. Raises Invalid, TooLarge."""
        if upload.size is None and "Upload-Length" in request.headers:
            size = _length(request)
            if size < upload.received:
                raise Invalid(f"{upload.received} bytes are here already: Upload-Length is that of the whole file.")
            images.require_possible_size(size)
            upload.size = size
            Upload.objects.filter(pk=upload.pk, size=None).update(size=upload.size)
        return upload.size

    def _answer_tus(self, status: int, upload: Upload, **headers: str) -> Response:
        expires = format_datetime(upload.expires_at, usegmt=True)
        told = {"Tus-Resumable": TUS, "Upload-Offset": str(upload.received), "Upload-Expires": expires}
        return Response(status=status, headers=told | headers)


class Uploads(ImageView, View):
    """Where tus begins an upload: POST makes the image, and answers where its content goes."""

    @extend_schema(exclude=True)
    def post(self, request: Request, project: str) -> Response:
        """`Upload-Metadata` has the members of the API's body that are texts, at least the image's name."""
        _require_tus(request)
        told = _metadata(request)
        source: dict[str, Any] = {"kind": "upload"}
        if request.headers.get("Upload-Defer-Length") != "1":
            source["size"] = _length(request)
        for name in ("sha256", "format"):
            if name in told:
                source[name] = told.pop(name)
        told.pop("filename", None)
        told.pop("filetype", None)

        def create() -> Image:
            form = ImageForm(data={**told, "source": source}, context=self.context())
            form.is_valid(raise_exception=True)
            return images.begin(project=self.project, actor=self.actor, **form.validated_data)

        made = self.mutate(create)
        where = absolute(f"/api/v1/projects/{self.project.name}/images/{made.data['id']}/upload/file")
        return Response(status=201, headers={"Tus-Resumable": TUS, "Location": where})

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        return Response(status=204, headers=_about())


def _about() -> dict[str, str]:
    return {
        "Tus-Resumable": TUS,
        "Tus-Version": TUS,
        "Tus-Extension": "creation,creation-defer-length,checksum,termination,expiration",
        "Tus-Checksum-Algorithm": ",".join(HASHES),
        "Tus-Max-Size": str(settings.IMAGE_MAX_GIB * GIB),
    }


def _require_tus(request: Request) -> None:
    if request.headers.get("Tus-Resumable") != TUS:
        raise Conflict(f"This speaks tus {TUS}: send Tus-Resumable.", headers={"Tus-Version": TUS})


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise Invalid(f"{name} is a number of bytes.", errors=[Fault("", f"{name} is a number of bytes.")])
    return int(text)


def _length(request: Request) -> int:
    return _number(request, "Upload-Length")


def _checksum(request: Request) -> tuple[str, str] | None:
    """The hash of this piece, and its digest in hexadecimal. Raises Invalid."""
    header = request.headers.get("Upload-Checksum")
    if header is None:
        return None
    name, _, digest = header.partition(" ")
    if name not in HASHES:
        raise Invalid(f"Pieces are checked by {' or '.join(HASHES)}.")
    try:
        return name, base64.b64decode(digest, validate=True).hex()
    except binascii.Error:
        raise Invalid("Upload-Checksum is a hash and a digest in base64.") from None


def _metadata(request: Request) -> dict[str, str]:
    """What a client tells of an upload: `name YWJj,os bGludXg=`. Raises Invalid."""
    told = {}
    for pair in filter(None, request.headers.get("Upload-Metadata", "").split(",")):
        key, _, value = pair.strip().partition(" ")
        try:
            told[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Invalid(f"Upload-Metadata: {key[:40]} is not base64 of UTF-8.") from None
    return told


P = "projects/<str:project>"
urlpatterns = [
    path(f"{P}/images/<str:ref>/file", ImageFile.as_view()),
    path(f"{P}/images/<str:ref>/upload/file", Tus.as_view()),
    path(f"{P}/uploads", Uploads.as_view()),
]
