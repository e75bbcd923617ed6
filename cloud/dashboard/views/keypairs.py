"""Key pairs: whose public half new instances let in."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.api.errors import NotFound
from cloud.dashboard import rows
from cloud.pages import forms
from cloud.pages.base import FormPage, Page
from compute import keypairs
from compute.api.keypairs import KeyPairChanges, KeyPairForm
from compute.models import KeyPair


class KeyPairs(FormPage):
    template = "dashboard/keypairs/list.html"
    section = "keypairs"

    def fill(self) -> dict[str, Any]:
        text = self.request.GET.get("q", "")
        found = rows.search(KeyPair.objects.filter(project=self.project), text)
        return {**self.slice(found, ("name", "id")), "q": text}

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        body: dict[str, Any] = forms.required(post, "name")
        if post.get("how") == "paste":
            body["public_key"] = post.get("public_key", "").strip()
        if labels := forms.labels(post):
            body["labels"] = labels
        return body

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        made_here = "public_key" not in body
        return self.mutate(
            lambda: keypairs.create(project=self.project, actor=self.scope.actor, **self.validate(KeyPairForm, body)),
            body=body,
            to=reverse("keypairs", args=[self.project.name]),
            done=lambda made: f"{made[0].name} is here.",
            secret=self.show_secret if made_here else None,
        )

    def show_secret(self, made: tuple[KeyPair, str]) -> HttpResponse:
        return self.show({"keypair": made[0], "secret": made[1]}, template="dashboard/keypairs/secret.html")


class OneKeyPair(Page):
    keypair: KeyPair

    def enter(self, **kwargs: Any) -> None:
        super().enter(**kwargs)
        found = KeyPair.objects.filter(project=self.project, pk=kwargs["keypair"]).first()
        if found is None:
            raise NotFound()
        self.keypair = found


class ChangeKeyPair(OneKeyPair, FormPage):
    """Its name and labels; the key itself stays."""

    template = "dashboard/keypairs/change.html"
    section = "keypairs"

    def fill(self) -> dict[str, Any]:
        return {"keypair": self.keypair}

    def initial(self) -> dict[str, Any]:
        return {"name": self.keypair.name, "labels": forms.labels_as_text(self.keypair.labels)}

    def read(self) -> dict[str, Any]:
        return {**forms.required(self.request.POST, "name"), "labels": forms.labels(self.request.POST)}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        return self.mutate(
            lambda: keypairs.update(
                keypair=self.keypair, actor=self.scope.actor, **self.validate(KeyPairChanges, body, partial=True)
            ),
            body=body,
            to=reverse("keypairs", args=[self.project.name]),
            done="Changed.",
            undo=(self.request.path, self.initial()),
        )


class DeleteKeyPair(OneKeyPair):
    def post(self, request: HttpRequest, project: str, keypair: str) -> HttpResponse:
        found, here = self.keypair, reverse("keypairs", args=[self.project.name])
        return self.mutate(
            lambda: keypairs.delete(keypair=found, actor=self.scope.actor),
            to=here,
            done=f"{found.name} is forgotten. Instances that were launched with it keep it.",
            undo=(here, as_form(found)),
        )


def as_form(keypair: KeyPair) -> dict[str, str]:
    """The form that makes it once more."""
    return {
        "name": keypair.name,
        "how": "paste",
        "public_key": keypair.public_key,
        "labels": forms.labels_as_text(keypair.labels),
    }
