"""The form of what hosts send. Unknown fields are let through: an agent may be newer than the control plane."""

from rest_framework import serializers

from cloud.tenancy.models import validate_name

MOST = 2**31 - 1
LARGEST_GENERATION = 2**62


class Generation(serializers.IntegerField):
    def __init__(self) -> None:
        super().__init__(min_value=0, max_value=LARGEST_GENERATION)


class Capacity(serializers.Serializer):
    vcpus = serializers.IntegerField(min_value=0, max_value=MOST)
    memory_mib = serializers.IntegerField(min_value=0, max_value=MOST)
    disk_gib = serializers.IntegerField(min_value=0, max_value=MOST)


class Join(serializers.Serializer):
    token = serializers.CharField(max_length=200)
    name = serializers.CharField(validators=[validate_name])
    capacity = Capacity()
    capabilities = serializers.DictField()


class InventoryItem(serializers.Serializer):
    type = serializers.CharField(max_length=40)
    id = serializers.UUIDField()
    generation = Generation()
    sequence = Generation()
    seen = serializers.CharField(max_length=20)


class Heartbeat(serializers.Serializer):
    boot_id = serializers.CharField(max_length=64)
    agent_version = serializers.CharField(max_length=40, allow_blank=True)
    capacity = Capacity()
    capabilities = serializers.DictField()
    inventory = InventoryItem(many=True)


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
    seen = serializers.ChoiceField(["running", "stopped", "paused", "suspended", "gone", "broken", "unknown"])
    facts = serializers.DictField(default=dict)
