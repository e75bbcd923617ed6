"""The part of the agent API that is about backups: blocks from the hosts that have volumes, and for those that restore.

A body of more than 1 MiB arrives without a thread (decision 24): paths of such end in `files/<n>`.
"""

from uuid import UUID, uuid4

from django.http import Http404, HttpResponse
from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud import intake
from cloud.hosts.agent_api.views import AgentView
from cloud.problems import TooLarge, Unavailable
from cloud.tenancy import quota
from storage import backing_up, fetching, vault
from storage.agent.blocks import BLOCKS_IN_PART, MAX_PACKED_BYTES
from storage.api.agent import LATER
from storage.models import Backup, BackupBlock, BackupPart, Layer
from storage.models.images import GIB
from storage.store import SHA256, incoming


class OfBackup(AgentView):
    """What a host does for a backup that it has been ordered to make; 404 once that is not wanted any more."""

    def backup(self, row_id: UUID) -> Backup:
        made = Backup.objects.filter(status=Backup.Status.MAKING, imports__host=self.host, imports__wanted=True)
        found = made.filter(imports__pk=row_id).first()
        if found is None:
            raise Http404
        return found


class KeyView(OfBackup):
    def get(self, request: Request, row_id: UUID) -> Response:
        return Response({"key": vault.keys_of(self.backup(row_id).project_id).digest.hex()})


class Part(serializers.Serializer):
    run = serializers.UUIDField()
    digests = serializers.ListField(
        child=serializers.RegexField(SHA256, max_length=64, allow_blank=True),
        min_length=BLOCKS_IN_PART,
        max_length=BLOCKS_IN_PART,
    )


class PartView(OfBackup):
    """What is in one GiB of the volume. The answer: {"missing": [places of the blocks that are to be sent]}."""

    def put(self, request: Request, row_id: UUID, number: int) -> Response:
        backup = self.backup(row_id)
        if number >= backup.size_gib:
            raise Http404
        self._require_room(backup)
        missing = backing_up.note_part(backup, number=number, **self.form(Part))
        return Response({"missing": missing})

    def _require_room(self, backup: Backup) -> None:
        """Asked for each GiB, so a project gets a GiB more than it may have at most. Raises TooLarge."""
        limit = (quota.usage(backup.project_id).get("backup_gib") or {"limit": None})["limit"]
        if limit is not None and backing_up.stored_bytes(backup.project_id) >= limit * GIB:
            raise TooLarge(f"The project's quota of backup_gib ({limit} GiB) is full. Delete backups, or ask for more.")


class BlockView(OfBackup):
    """One block, packed. It is durable in the store before the answer."""

    def put(self, request: Request, row_id: UUID, index: int) -> Response:
        backup = self.backup(row_id)

        def place() -> intake.Intake:
            path = incoming() / f"{uuid4()}.block"
            return intake.Intake(path, limit=MAX_PACKED_BYTES, owner=f"host:{self.host.pk}", hashes=("sha256",))

        received = intake.take(request._request.META, place)
        if received is None:
            return Response(status=LATER)
        try:
            if received.digests["sha256"] != request.headers.get("X-Content-SHA256"):
                raise Unavailable("What came is not what was sent. Send it again.")
            backing_up.take_block(backup, index=index, packed=received.path.read_bytes())
        finally:
            received.path.unlink(missing_ok=True)
        return Response(status=201)


class OfRestore(AgentView):
    """What a host asks to fill a layer that begins with a backup; 404 once it has it."""

    def backup(self, layer_id: UUID, *, part: int | None = None) -> Backup:
        layers = Layer.objects.filter(pk=layer_id, host=self.host, backup__isnull=False).select_related("backup")
        layer = layers.first()
        if layer is None or layer.backup is None:
            raise Http404
        fetching.note(layer, part=part)
        return layer.backup


class OfDrill(OfRestore):
    """What a host asks that restores a backup in a drill."""

    def backup(self, layer_id: UUID, *, part: int | None = None) -> Backup:
        complete = Backup.objects.filter(status__in=(Backup.Status.READY, Backup.Status.DAMAGED))
        found = complete.filter(imports__pk=layer_id, imports__host=self.host, imports__wanted=True).first()
        if found is None:
            raise Http404
        return found


class RestoreKeyView(OfRestore):
    def get(self, request: Request, layer_id: UUID) -> Response:
        return Response({"key": vault.keys_of(self.backup(layer_id).project_id).digest.hex()})


class RestorePartView(OfRestore):
    def get(self, request: Request, layer_id: UUID, number: int) -> Response:
        backup = self.backup(layer_id, part=number)
        part = BackupPart.objects.filter(backup=backup, number=number).first()
        if part is None:
            raise Http404
        return Response({"digests": part.digests})


class RestoreBlockView(OfRestore):
    def get(self, request: Request, layer_id: UUID, digest: str) -> HttpResponse:
        backup = self.backup(layer_id)
        block = BackupBlock.objects.filter(project=backup.project_id, digest=digest).first()
        if block is None or not BackupPart.objects.filter(backup=backup, digests__contains=[digest]).exists():
            raise Http404
        try:
            return HttpResponse(vault.read(block), content_type="application/octet-stream")
        except vault.Damaged:
            BackupBlock.objects.filter(pk=block.pk).update(damaged=True)
            raise Http404 from None


class DrillKeyView(OfDrill, RestoreKeyView):
    pass


class DrillPartView(OfDrill, RestorePartView):
    pass


class DrillBlockView(OfDrill, RestoreBlockView):
    pass


urlpatterns = [
    path("backups/<uuid:row_id>", KeyView.as_view()),
    path("backups/<uuid:row_id>/parts/<int:number>", PartView.as_view()),
    path("backups/<uuid:row_id>/files/<int:index>", BlockView.as_view()),
    path("restores/<uuid:layer_id>", RestoreKeyView.as_view()),
    path("restores/<uuid:layer_id>/parts/<int:number>", RestorePartView.as_view()),
    path("restores/<uuid:layer_id>/blocks/<str:digest>", RestoreBlockView.as_view()),
    path("drills/<uuid:layer_id>", DrillKeyView.as_view()),
    path("drills/<uuid:layer_id>/parts/<int:number>", DrillPartView.as_view()),
    path("drills/<uuid:layer_id>/blocks/<str:digest>", DrillBlockView.as_view()),
]
