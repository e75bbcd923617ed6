"""What a host asks and tells. Views only translate; the work is in services, orders and reports."""

import json
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cloud.api import limits
from cloud.api.addresses import address, counted_as
from cloud.api.translate import problem_of, rest_response
from cloud.hosts import orders, redis_acl, reports, services
from cloud.hosts.agent_api import serializers as forms
from cloud.hosts.agent_api.authentication import HostAuthentication, IsHost
from cloud.hosts.models import Host
from cloud.hosts.reports import Accepted, Outdated
from cloud.hosts.resources import Report
from cloud.problems import Problem, Unavailable
from cloud.server_addresses import without_credentials
from cloud.streams import handover, handshakes


@extend_schema(exclude=True)
class AgentView(APIView):
    """Base: authenticated as a host, never as a person."""

    authentication_classes = (HostAuthentication,)
    permission_classes: Any = (IsHost,)
    throttle_classes = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Limits guesses by address, and each host on its own."""
        try:
            super().initial(request, *args, **kwargs)
        except APIException:
            _take(f"guess:{counted_as(address(request))}", rate=2, burst=60)
            raise
        if isinstance(request.user, Host):
            _take_of(request.user)

    def form(self, form: type[serializers.Serializer]) -> dict[str, Any]:
        return read(form, self.request.data)

    @property
    def host(self) -> Host:
        assert isinstance(self.request.user, Host)
        return self.request.user


def read(form: type[serializers.Serializer], told: Any) -> dict[str, Any]:
    """What a host tells, in its form. Raises ValidationError."""
    read = form(data=told)
    read.is_valid(raise_exception=True)
    return dict(read.validated_data)


def _take(bucket: str, *, rate: float, burst: int, times: int = 1) -> None:
    """Take one request out of a bucket, or one that stands for several. Raises RateLimited."""
    verdict = limits.take(bucket, rate=rate, burst=burst, times=times)
    if not verdict.allowed:
        raise verdict.refusal()


def _take_of(host: Host, times: int = 1) -> None:
    if times:
        _take(f"host:{host.pk}", rate=200, burst=2000, times=times)


class JoinView(AgentView):
    authentication_classes = ()  # type: ignore[assignment]
    permission_classes = (AllowAny,)

    def post(self, request: Request) -> Response:
        form = self.form(forms.Join)
        try:
            host, credentials = services.join(**form)
        except Problem:
            _take(f"guess:{counted_as(address(request))}", rate=2, burst=60)
            raise
        return Response(
            {
                "host": {"id": str(host.pk), "name": host.name},
                "token": credentials.token,
                "redis_url": redis_url(host, credentials.redis_password),
                "key_prefix": orders.key_prefix(host),
                "queue": orders.queue(host),
                "heartbeat_seconds": settings.HEARTBEAT_SECONDS,
            },
            status=status.HTTP_201_CREATED,
        )


def redis_url(host: Host, password: str) -> str:
    """Where the host finds its doorbell, with its own login."""
    parts = urlsplit(settings.HOST_REDIS_URL)
    return parts._replace(netloc=f"{redis_acl.username(host)}:{password}@{parts.netloc}").geturl()


def broker_address() -> str:
    """Where the broker of the hosts' bells is now, without credentials: each host has its own."""
    return without_credentials(settings.HOST_REDIS_URL)


class HeartbeatView(AgentView):
    def post(self, request: Request) -> Response:
        beat = self.form(forms.Heartbeat)
        beat["inventory"] = json.loads(json.dumps(beat["inventory"], default=str))
        unowned = services.beat(self.host, **beat)
        host = {"id": str(self.host.pk), "name": self.host.name, "enabled": self.host.enabled}
        return Response({"host": host, "unowned": unowned, "broker": broker_address()})


class ClaimView(AgentView):
    def post(self, request: Request) -> Response:
        claimed = orders.claim(self.host, **self.form(forms.Claim))
        return Response(
            {
                "orders": [
                    {
                        "id": str(order.pk),
                        "resource": {"type": order.resource_type, "id": str(order.resource_id)},
                        "verb": order.verb,
                        "generation": order.generation,
                        "attempt": order.attempt,
                        "lease_seconds": settings.ORDER_LEASE_SECONDS,
                        "spec": spec,
                    }
                    for order, spec in ((item.order, item.spec) for item in claimed)
                ]
            }
        )


class RenewView(AgentView):
    def post(self, request: Request, order_id: UUID) -> Response:
        current = orders.renew(self.host, order_id, self.form(forms.Renew)["generation"])
        if current is None:
            return Response({"lease_seconds": settings.ORDER_LEASE_SECONDS})
        return Response({"generation": current}, status=status.HTTP_409_CONFLICT)


class ReportView(AgentView):
    def post(self, request: Request) -> Response:
        return self.take(request.data)

    def take(self, told: Any) -> Response:
        """Read one report, and say whether it is wanted."""
        sighting = read(forms.Sighting, told)
        resource = sighting.pop("resource")
        verdict = reports.receive(
            Report(host=self.host, resource_type=resource["type"], resource_id=resource["id"], **sighting)
        )
        match verdict:
            case Accepted():
                return Response({})
            case Outdated(generation):
                return Response({"generation": generation}, status=status.HTTP_409_CONFLICT)


class ReportsView(ReportView):
    """Several reports in one call. Each has a transaction of its own, and the answer that it would have had alone."""

    def post(self, request: Request) -> Response:
        told = self.form(forms.Sightings)["reports"]
        _take_of(self.host, times=len(told) - 1)  # the call itself has been counted
        answers = map(self.answer, told)
        return Response({"answers": [{"status": answer.status_code, "body": answer.data} for answer in answers]})

    def answer(self, told: Any) -> Response:
        try:
            return self.take(told)
        except Exception as error:
            return rest_response(problem_of(error), self.request)


class StreamView(AgentView):
    """The host's line: a websocket over which it is asked for consoles and logs."""

    def get(self, request: Request) -> Response:
        head = handshakes.handshake(request._request)
        handed = handover.keep_line(request, self.host.pk, head)
        if handed is None:
            raise Unavailable("Lines of hosts are not served at the moment.")
        return handed  # type: ignore[return-value]
