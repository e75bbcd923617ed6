"""The part of the agent API by which hosts get image files from each other (docs/decisions/0058)."""

from typing import Any

from django.http import Http404
from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.hosts.agent_api.views import AgentView
from storage import files, peers
from storage.store import SHA256

MAX_BYTES = 2**62
MAX_FAILED = 16


class Failed(serializers.Serializer):
    peer = serializers.UUIDField()
    problem = serializers.CharField(max_length=1000, allow_blank=True)
    wrong = serializers.BooleanField()


class Wish(serializers.Serializer):
    size = serializers.IntegerField(min_value=0, max_value=MAX_BYTES)
    failed = serializers.ListField(child=Failed(), max_length=MAX_FAILED, default=list)
    tried = serializers.ListField(child=serializers.UUIDField(), max_length=MAX_FAILED, default=list)
    peers = serializers.BooleanField(default=True)


class Progress(serializers.Serializer):
    received = serializers.IntegerField(min_value=0, max_value=MAX_BYTES)


class Done(serializers.Serializer):
    size = serializers.IntegerField(min_value=0, max_value=MAX_BYTES)
    peer = serializers.UUIDField(allow_null=True)


class TurnView(AgentView):
    """The turn of a host to fetch a file. 404 for one that nothing there needs: so nobody else gets tickets."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        sha256 = str(kwargs["sha256"])
        if not SHA256.fullmatch(sha256) or not files.may_fetch(self.host, sha256):
            raise Http404

    def put(self, request: Request, sha256: str) -> Response:
        return Response(peers.turn(self.host, sha256, **self.form(Wish)))

    def patch(self, request: Request, sha256: str) -> Response:
        peers.note_progress(self.host, sha256, **self.form(Progress))
        return Response(status=204)

    def post(self, request: Request, sha256: str) -> Response:
        peers.note_done(self.host, sha256, **self.form(Done))
        return Response(status=204)


class ServingView(AgentView):
    """What a host has to know that serves its cache: the key of the tickets, and which of its files to look at."""

    def get(self, request: Request) -> Response:
        return Response({"key": peers.key_of(self.host).hex(), "doubted": peers.doubted(self.host)})


urlpatterns = [
    path("files/<str:sha256>/turn", TurnView.as_view()),
    path("serving", ServingView.as_view()),
]
