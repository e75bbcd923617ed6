"""The part of the agent API that is about transfers: blocks from the host that sends, for the one that receives.

Hosts have no way to each other. Blocks wait here, at most WINDOW of them for a transfer, until the target has them.
"""

from typing import Any
from uuid import UUID

from django.db.models import F
from django.http import Http404
from django.http.response import HttpResponseBase
from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud import intake, outgoing
from cloud.hosts.agent_api.views import AgentView
from cloud.operations import engine, progress
from cloud.operations.workflow import Topic
from cloud.problems import Conflict, Fault, Invalid, Unavailable
from storage import moving
from storage.agent.blocks import BLOCK_BYTES
from storage.agent.transfers import FORMATS, MAX_FILE_BYTES, MAX_MESSAGE_BYTES, MAX_RUNS, WINDOW
from storage.api.agent import LATER
from storage.models import Transfer, TransferOnHost
from storage.models.images import MIB


class OfTransfer(AgentView):
    """One that the asking host has been ordered to send or to receive; 404 once that is not wanted any more."""

    def transfer(self, transfer_id: UUID, *, sends: bool | None = None) -> Transfer:
        rows = TransferOnHost.objects.select_related("transfer").filter(host=self.host, wanted=True)
        row = rows.filter(transfer=transfer_id, transfer__outcome="").first()
        if row is None or sends not in (None, row.sends):
            raise Http404
        return row.transfer


class TransferView(OfTransfer):
    """How far it is."""

    def get(self, request: Request, transfer_id: UUID) -> Response:
        found = self.transfer(transfer_id)
        return Response({"files": found.contents, "sent": found.sent, "fetched": found.fetched})


class Content(serializers.Serializer):
    of = serializers.CharField(max_length=40)
    id = serializers.UUIDField()
    name = serializers.CharField(max_length=64)
    format = serializers.ChoiceField(FORMATS)
    size = serializers.IntegerField(min_value=0, max_value=MAX_FILE_BYTES)
    runs = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField(min_value=0), min_length=2, max_length=2),
        max_length=MAX_RUNS,
    )

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        at, blocks = 0, -(-attributes["size"] // BLOCK_BYTES)
        for first, count in attributes["runs"]:
            if first < at or not count:
                raise serializers.ValidationError("Runs of blocks have an order, and each has a block.")
            at = first + count
        if at > blocks:
            raise serializers.ValidationError("A run of blocks goes beyond the end of its file.")
        return {**attributes, "id": str(attributes["id"])}


class Contents(serializers.Serializer):
    files = serializers.ListField(child=Content(), max_length=10_000)


class ContentsView(OfTransfer):
    """What its source has of what is to be sent. It is said once."""

    def put(self, request: Request, transfer_id: UUID) -> Response:
        transfer = self.transfer(transfer_id, sends=True)
        files = self.form(Contents)["files"]
        if {(file["of"], file["id"], file["name"]) for file in files} - transfer.names():
            words = "A file is named that is not to be sent."
            raise Invalid(words, errors=[Fault("/files", words)])
        Transfer.objects.filter(pk=transfer.pk, contents__isnull=True).update(contents=files)
        engine.tell_waiting(Topic(moving.TRANSFER, transfer.pk))
        return Response(status=204)


class BlockView(OfTransfer):
    """One block with its digest, packed (storage/agent/transfers.py)."""

    def put(self, request: Request, transfer_id: UUID, number: int) -> Response:
        transfer = self.transfer(transfer_id, sends=True)
        if number != transfer.sent or number >= transfer.blocks:
            raise Conflict(f"Block {transfer.sent} is the next one.")
        if number >= transfer.fetched + WINDOW:
            raise Unavailable("The other host has to fetch some first.")

        def place() -> intake.Intake:
            file = transfer.folder / f"{number}.new"
            return intake.Intake(file, limit=MAX_MESSAGE_BYTES, owner=f"host:{self.host.pk}", hashes=("sha256",))

        try:
            received = intake.take(request._request.META, place)
        except intake.Busy as busy:  # this host's own, whose line was cut: it will be noticed
            raise Unavailable(busy.detail) from busy
        if received is None:
            return Response(status=LATER)
        if received.digests["sha256"] != request.headers.get("X-Content-SHA256"):
            received.path.unlink(missing_ok=True)
            raise Unavailable("What came is not what was sent. Send it again.")
        received.path.rename(transfer.folder / str(number))
        Transfer.objects.filter(pk=transfer.pk, sent=number).update(sent=F("sent") + 1)
        if number == 0:
            engine.tell_waiting(Topic(moving.TRANSFER, transfer.pk))
        return Response(status=201)

    def get(self, request: Request, transfer_id: UUID, number: int) -> HttpResponseBase:
        transfer = self.transfer(transfer_id, sends=False)
        try:
            file = (transfer.folder / str(number)).open("rb")
        except FileNotFoundError:
            raise Http404 from None
        return outgoing.answer(request._request.META, file, owner=f"host:{self.host.pk}")


class Fetched(serializers.Serializer):
    fetched = serializers.IntegerField(min_value=0)


class FetchedView(OfTransfer):
    """So many blocks are durable on the target: they need not be here any more."""

    def put(self, request: Request, transfer_id: UUID) -> Response:
        transfer = self.transfer(transfer_id, sends=False)
        fetched = self.form(Fetched)["fetched"]
        if not Transfer.objects.filter(pk=transfer.pk, fetched__lte=fetched, sent__gte=fetched).update(fetched=fetched):
            raise Conflict(f"{transfer.fetched} of {transfer.sent} have been fetched.")
        for number in range(transfer.fetched, fetched):
            (transfer.folder / str(number)).unlink(missing_ok=True)
        step = BLOCK_BYTES // MIB
        progress.note(
            transfer.subject_type, transfer.subject_id, reason="it is being copied", done=fetched * step,
            of=transfer.blocks * step, unit="MiB",
        )  # fmt: skip
        return Response(status=204)


urlpatterns = [
    path("transfers/<uuid:transfer_id>", TransferView.as_view()),
    path("transfers/<uuid:transfer_id>/contents", ContentsView.as_view()),
    path("transfers/<uuid:transfer_id>/files/<int:number>", BlockView.as_view()),
    path("transfers/<uuid:transfer_id>/fetched", FetchedView.as_view()),
]
