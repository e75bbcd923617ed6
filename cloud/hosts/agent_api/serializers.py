"""The form of what hosts send. Unknown fields are let through: an agent may be newer than the control plane."""

import json
from typing import Any

from rest_framework import serializers

from cloud.hosts import shapes
from cloud.tenancy.models import validate_name

MAX_AMOUNT = 2**31 - 1
MAX_GENERATION = 2**62
MAX_PROBLEMS = 100
MAX_REPORTS = 64  # in one call
MAX_CAPABILITIES = 64 * 1024  # bytes


class Generation(serializers.IntegerField):
    def __init__(self) -> None:
        super().__init__(min_value=0, max_value=MAX_GENERATION)


class Capacity(serializers.Serializer):
    vcpus = serializers.IntegerField(min_value=0, max_value=MAX_AMOUNT)
    memory_mib = serializers.IntegerField(min_value=0, max_value=MAX_AMOUNT)
    disk_gib = serializers.IntegerField(min_value=0, max_value=MAX_AMOUNT)


class Capabilities(serializers.DictField):
    """What a host says that it can. Pages and placement read it everywhere, so it is looked at here."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        told: dict[str, Any] = super().to_internal_value(data)
        if len(json.dumps(told)) > MAX_CAPABILITIES:
            raise serializers.ValidationError(f"At most {MAX_CAPABILITIES} bytes.")
        if wrong := list(shapes.faults(told, shapes.CAPABILITIES, "")):
            raise serializers.ValidationError([f"{fault.pointer}: {fault.message}" for fault in wrong[:MAX_PROBLEMS]])
        return told


class Join(serializers.Serializer):
    token = serializers.CharField(max_length=200)
    name = serializers.CharField(validators=[validate_name])
    capacity = Capacity()
    capabilities = Capabilities()


class InventoryItem(serializers.Serializer):
    type = serializers.CharField(max_length=40)
    id = serializers.UUIDField()
    generation = Generation()
    sequence = Generation()
    seen = serializers.CharField(max_length=20)


class ProblemOfHost(serializers.Serializer):
    """Something that a host cannot put right by itself. `type` and `id` name the resource, where it is about one."""

    what = serializers.CharField(max_length=20)
    problem = serializers.CharField(max_length=500)
    type = serializers.CharField(max_length=40, required=False)
    id = serializers.CharField(max_length=40, required=False)


class Load(serializers.Serializer):
    """What a machine uses of what it has, measured."""

    cpu_percent = serializers.FloatField(min_value=0, max_value=100)
    memory_mib = serializers.IntegerField(min_value=0, max_value=MAX_AMOUNT)
    memory_total_mib = serializers.IntegerField(min_value=0, max_value=MAX_AMOUNT)
    disk_gib = serializers.FloatField(min_value=0, max_value=MAX_AMOUNT)
    disk_total_gib = serializers.FloatField(min_value=0, max_value=MAX_AMOUNT)


class Heartbeat(serializers.Serializer):
    boot_id = serializers.CharField(max_length=64)
    agent_version = serializers.CharField(max_length=40, allow_blank=True)
    capacity = Capacity()
    load = Load(required=False)  # agents before 0.2 tell none
    capabilities = Capabilities()
    inventory = InventoryItem(many=True)
    problems = serializers.ListField(child=ProblemOfHost(), max_length=MAX_PROBLEMS, default=list)


class Claim(serializers.Serializer):
    limit = serializers.IntegerField(min_value=1, max_value=64, default=4)
    incarnation = serializers.CharField(max_length=64, default="", allow_blank=True)


class Renew(serializers.Serializer):
    generation = Generation()


class Resource(serializers.Serializer):
    type = serializers.CharField(max_length=40)
    id = serializers.UUIDField()


class Sighting(serializers.Serializer):
    resource = Resource()
    generation = Generation()
    sequence = Generation()
    seen = serializers.CharField(max_length=20)  # a word of the resource's kind, which checks it
    facts = serializers.DictField(default=dict)


class Sightings(serializers.Serializer):
    """Several reports. Each is read by itself: one that cannot be read takes none of the others with it."""

    reports = serializers.ListField(child=serializers.DictField(), min_length=1, max_length=MAX_REPORTS)
