"""Parts of answers that several resources share."""

from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.serializers import ReferenceSerializer
from network.models import Port, RouterOnHost
from network.services.ports import ROUTER
from network.status import STATUSES, Status, any_carries, of_way_in


class RangeSerializer(serializers.Serializer):
    first = serializers.CharField()
    last = serializers.CharField()


class RouteSerializer(serializers.Serializer):
    destination = serializers.CharField()
    next_hop = serializers.CharField()


class SubnetReferenceSerializer(ReferenceSerializer):
    cidr = serializers.CharField(read_only=True)


class HolderSerializer(serializers.Serializer):
    """What is plugged into a port."""

    type = serializers.CharField()
    id = serializers.UUIDField()
    name = serializers.CharField()


def holder_of(port: Port) -> dict[str, str] | None:
    if port.holder_id is None:
        return None
    return {"type": port.holder_type, "id": str(port.holder_id), "name": port.holder_name}


def machine_of(port: Port) -> dict[str, str] | None:
    """The instance that is plugged into a port, as a reference."""
    if port.holder_id is None or port.holder_type == ROUTER:
        return None
    return {"id": str(port.holder_id), "name": port.holder_name}


class WithStatus(serializers.Serializer):
    """Whether hosts have made true what is wanted. A subclass has `find_status(row)`."""

    status = serializers.SerializerMethodField()
    status_reason = serializers.SerializerMethodField()

    @extend_schema_field(serializers.ChoiceField(STATUSES))
    def get_status(self, row: Any) -> str:
        return self.find_status(row).status

    def get_status_reason(self, row: Any) -> str:
        return self.find_status(row).reason

    def find_status(self, row: Any) -> Status:
        raise NotImplementedError

    def kept(self, what: str, find: Callable[[], Any]) -> Any:
        """What is looked up once for a whole answer."""
        context: dict[str, Any] = self.context  # type: ignore[assignment]
        if what not in context:
            context[what] = find()
        return context[what]

    @property
    def carried(self) -> bool:
        """Whether the cloud has a host with networks."""
        return bool(self.kept("carried", any_carries))


class WithWayIn(WithStatus):
    """Of what leads in to a port: `port_of(row)` gives it."""

    def find_status(self, row: Any) -> Status:
        project = self.context["scope"].project_id
        rows = self.kept("routers", lambda: list(RouterOnHost.objects.filter(router__project=project)))
        return of_way_in(row.pk, self.port_of(row), rows, carried=self.carried)

    def port_of(self, row: Any) -> Port | None:
        raise NotImplementedError
