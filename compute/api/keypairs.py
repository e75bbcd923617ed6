"""/api/v1/projects/{project}/keypairs"""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from cloud.api.fields import LabelsField, NameField, Text
from cloud.api.pagination import Filter
from cloud.api.serializers import Body
from cloud.api.views import Collection, InProject, Item, Once
from compute import keypairs
from compute.models import KeyPair


class KeyPairSerializer(serializers.Serializer):
    """A public key that new instances let in."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    labels = LabelsField()
    public_key = serializers.CharField()
    fingerprint = serializers.CharField(help_text="As ssh-keygen -l shows it.")
    created_at = serializers.DateTimeField()


class CreatedKeyPairSerializer(KeyPairSerializer):
    """With the private key where it was made here: shown this once, kept nowhere."""

    secret = serializers.CharField(allow_null=True)


class KeyPairForm(Body):
    """Without a public key, a pair is made and its private half shown once."""

    name = NameField()
    labels = LabelsField(required=False)
    public_key = Text(
        required=False,
        max_length=keypairs.MAX_KEY,
        error_messages={"blank": "Give the public key, such as the line in ~/.ssh/id_ed25519.pub."},
    )


class KeyPairChanges(Body):
    name = NameField()
    labels = LabelsField()


class KeyPairView(InProject):
    serializer = KeyPairSerializer
    created = CreatedKeyPairSerializer
    forms = {"POST": KeyPairForm, "PATCH": KeyPairChanges}

    def rows(self) -> QuerySet[KeyPair]:
        return KeyPair.objects.filter(project=self.project)


class KeyPairs(KeyPairView, Collection):
    filters = {"name": Filter(serializers.CharField()), "fingerprint": Filter(serializers.CharField())}

    def create(self, body: dict[str, Any]) -> Once:
        """Without a `public_key` a pair is made, and its private half is in this answer only."""
        return Once(*keypairs.create(project=self.project, actor=self.actor, **body))


class OneKeyPair(KeyPairView, Item):
    def change(self, keypair: KeyPair, body: dict[str, Any]) -> KeyPair:
        return keypairs.update(keypair=keypair, actor=self.actor, **body)

    def remove(self, keypair: KeyPair) -> None:
        """Instances that have it keep it."""
        keypairs.delete(keypair=keypair, actor=self.actor)


urlpatterns = [
    path("projects/<str:project>/keypairs", KeyPairs.as_view()),
    path("projects/<str:project>/keypairs/<str:ref>", OneKeyPair.as_view()),
]
