"""Parts of answers that several resources share."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.serializers import ReferenceSerializer
from network.models import Port
from network.services.ports import ROUTER
from network.status import STATUSES, status


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
    """Whether hosts have made true what is wanted."""

    status = serializers.SerializerMethodField()
    status_reason = serializers.SerializerMethodField()

    @extend_schema_field(serializers.ChoiceField(STATUSES))
    def get_status(self, row: Any) -> str:
        return self._status()[0]

    def get_status_reason(self, row: Any) -> str:
        return self._status()[1]

    def _status(self) -> tuple[str, str]:
        """Asked once an answer."""
        context: dict[str, Any] = self.context  # type: ignore[assignment]
        if "network_status" not in context:
            context["network_status"] = status()
        found: tuple[str, str] = context["network_status"]
        return found
