"""Key pairs: whose public half new instances let in."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse

from cloud.pages import forms
from cloud.pages.base import Undo
from cloud.pages.bulk import ForMany
from cloud.pages.generic import ChangePage, ListPage, ResourcePage, VerbPage
from compute import keypairs
from compute.api.keypairs import KeyPairChanges, KeyPairForm
from compute.models import KeyPair

NAME_AND_LABELS = {"name": forms.REQUIRED, "labels": forms.LABELS}


class KeyPairPage(ResourcePage):
    model, key, title = KeyPair, "keypair", "Key pairs"
    listed_at = section = "keypairs"
    help = "instances#key-pairs"


class KeyPairs(KeyPairPage, ListPage):
    template, form = "compute/keypairs/list.html", KeyPairForm
    sorts = {"name": "name", "added": "-created_at"}
    searched = ("name", "fingerprint")

    def read(self) -> dict[str, Any]:
        pasted = {"public_key": forms.REQUIRED} if self.request.POST.get("how") == "paste" else {}
        return forms.read(self.request.POST, {**NAME_AND_LABELS, **pasted})

    def create(self, body: dict[str, Any]) -> tuple[KeyPair, str | None]:
        return keypairs.create(project=self.project, actor=self.scope.actor, **body)

    def created(self, made: tuple[KeyPair, str | None]) -> str:
        return f"{made[0].name} is here."

    def makes_secret(self, body: Mapping[str, Any]) -> bool:
        return "public_key" not in body

    def show_secret(self, made: tuple[KeyPair, str | None]) -> HttpResponse:
        return self.show({"keypair": made[0], "secret": made[1]}, template="compute/keypairs/secret.html")

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeleteKeyPair),)


class ChangeKeyPair(KeyPairPage, ChangePage):
    """Its name and labels; the key itself stays."""

    template, form, fields = "compute/keypairs/change.html", KeyPairChanges, NAME_AND_LABELS

    def change(self, changes: dict[str, Any]) -> KeyPair:
        return keypairs.update(keypair=self.item, actor=self.scope.actor, **changes)


class DeleteKeyPair(KeyPairPage, VerbPage):
    def act(self) -> None:
        keypairs.delete(keypair=self.item, actor=self.scope.actor)

    def done(self, result: None) -> str:
        return f"{self.item.name} is forgotten. Instances that were launched with it keep it."

    def undo(self) -> Undo:
        """The form that makes it once more."""
        again = {"how": "paste", "public_key": self.item.public_key}
        return self.the_list, {**forms.write(self.item, NAME_AND_LABELS), **again}
