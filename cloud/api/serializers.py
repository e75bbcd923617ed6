"""The base of every body: it refuses what it does not know, and names all faults at once."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError


class Body(serializers.Serializer):
    """A serializer that refuses unknown and read-only fields instead of dropping them; also where it is nested."""

    def to_internal_value(self, data: Any) -> Any:
        faults: dict[str, Any] = {}
        if isinstance(data, Mapping):
            for name in data:
                if name not in self.fields:
                    faults[name] = [ErrorDetail("There is no such field.", "unknown_field")]
                elif self.fields[name].read_only:
                    faults[name] = [ErrorDetail("This field cannot be set.", "read_only")]
        try:
            value = super().to_internal_value(data)
        except ValidationError as error:
            faults = {**faults, **error.detail}  # type: ignore[dict-item]
        if faults:
            raise ValidationError(faults)
        return value


class Nothing(Body):
    """The empty body of a verb that needs no words."""


class ReferenceSerializer(serializers.Serializer):
    """Another resource, as it is shown inside of one."""

    id = serializers.UUIDField(read_only=True)
    name = serializers.CharField(read_only=True)
