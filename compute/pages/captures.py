"""An image of an instance, on the dashboard."""

from typing import Any

from django.http import HttpResponse

from cloud.pages import forms
from cloud.pages.generic import ItemFormPage
from compute import why_not
from compute.pages.instances import InstanceItemPage
from compute.services.capturing import create_image
from storage.api.image_fields import CreateImageForm
from storage.models import Image


class CreateImage(InstanceItemPage, ItemFormPage):
    """What it is to be called."""

    template = "compute/instances/create_image.html"

    def fill(self) -> dict[str, Any]:
        frame = {"title": self.title, "the_list": self.the_list, "after": self.after()}
        return {**super().fill(), **frame, "why_not": why_not.create_image(self.item)}

    def initial(self) -> dict[str, Any]:
        return {"name": f"{self.item.name}-image"[:63]}

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        return {**forms.required(post, "name"), **forms.texts(post, "version", "description")}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        def work() -> Image:
            return create_image(instance=self.item, actor=self.scope.actor, **self.validate(CreateImageForm, body))

        to = lambda image: self.route("image", image.pk)  # noqa: E731
        return self.mutate(work, body=body, to=to, done=lambda image: f"{image} is being made.")
