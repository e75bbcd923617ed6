"""Fields of bodies about networks: ranges, addresses, protocols; and a body that names all of its faults at once."""

from collections.abc import Iterator, Sequence
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.fields import SkipField

from cloud.api.fields import Text
from cloud.api.serializers import Body
from cloud.problems import Fault
from network import addressing
from network.models.security import PROTOCOLS

CASCADE = serializers.BooleanField(help_text="Also delete what is on it. A dry run shows what that is.")


class CidrText(Text):
    """A network: 10.0.0.0/24."""

    def __init__(self, **options: Any):
        super().__init__(max_length=50, **options)

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        try:
            return str(addressing.read_network(text))
        except ValueError as error:
            raise ValidationError(str(error)) from None


class AddressText(Text):
    """An address: 10.0.0.5."""

    def __init__(self, **options: Any):
        super().__init__(max_length=45, **options)

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        try:
            return str(addressing.read_address(text))
        except ValueError as error:
            raise ValidationError(str(error)) from None


@extend_schema_field(
    {"oneOf": [{"type": "string", "enum": sorted(PROTOCOLS)}, {"type": "integer", "minimum": 0, "maximum": 255}]}
)
class ProtocolField(serializers.Field):
    """tcp, udp, icmp, icmpv6, or a number of IP."""

    default_error_messages = {"invalid": f"Give {', '.join(PROTOCOLS)}, or a number from 0 to 255."}

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, str) and data in PROTOCOLS:
            return PROTOCOLS[data]
        if isinstance(data, int) and not isinstance(data, bool) and 0 <= data <= 255:
            return data
        raise ValidationError(self.error_messages["invalid"])

    def to_representation(self, value: int) -> str | int:
        return next((name for name, number in PROTOCOLS.items() if number == value), value)


class RangeForm(Body):
    """Addresses from the first to the last."""

    first = AddressText()
    last = AddressText()

    def validate(self, body: dict[str, Any]) -> dict[str, Any]:
        if (":" in body["first"]) != (":" in body["last"]):
            raise ValidationError("One end is IPv4, the other IPv6.")
        return body


class RouteForm(Body):
    """Where packets for a network are sent."""

    destination = CidrText()
    next_hop = AddressText()


def list_of(form: type[Body], most: int) -> serializers.ListSerializer:
    """A list of bodies that may be left out, counted before anything in it is read."""
    return serializers.ListSerializer(child=form(), required=False, max_length=most)


class WholeBody(Body):
    """Names what does not fit together beside what is wrong by itself, so that nobody meets faults one after another.

    A subclass has `faults(values)`: it gets the fields that are right by themselves.
    """

    def faults(self, values: dict[str, Any]) -> Iterator[Fault]:
        raise NotImplementedError

    def to_internal_value(self, data: Any) -> Any:
        found: Any = {}
        try:
            values = super().to_internal_value(data)
        except ValidationError as error:
            found, values = error.detail, self._right(data) if isinstance(data, dict) else {}
        for fault in self.faults(values):
            found = _with(found, fault.pointer.strip("/").split("/"), fault)
        if found:
            raise ValidationError(found)
        return values

    def _right(self, data: dict[str, Any]) -> dict[str, Any]:
        """The fields that are right by themselves."""
        values: dict[str, Any] = {}
        for field in self._writable_fields:
            try:
                values[str(field.source)] = field.run_validation(field.get_value(data))
            except (ValidationError, SkipField):
                continue
        return values


def _with(found: Any, path: Sequence[str], fault: Fault) -> Any:
    """DRF's nest of errors with one more, at its place."""
    if not path:
        detail = ErrorDetail(fault.message, fault.code)
        if isinstance(found, dict):
            return {**found, "non_field_errors": [*found.get("non_field_errors", []), detail]}
        return [*(found or []), detail]
    if isinstance(found, list):
        is_of_places = all(isinstance(one, dict) for one in found)
        found = {str(at): one for at, one in enumerate(found)} if is_of_places else {"non_field_errors": found}
    return {**(found or {}), path[0]: _with((found or {}).get(path[0]), path[1:], fault)}
