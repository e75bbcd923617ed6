"""The form with which an image is made of a disk, whosever disk it is."""

from typing import Any

from django.http import HttpResponse

from cloud.pages import forms
from cloud.pages.generic import ItemFormPage
from storage.api.image_fields import CreateImageForm
from storage.models import Image


class CreateImagePage(ItemFormPage):
    """What the image is to be called: `create` calls the service. Templates extend `storage/create_image.html`."""

    def fill(self) -> dict[str, Any]:
        return {**super().fill(), "subject": self.item.name, "after": self.after(), "why_not": self.why_not()}

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        return {**forms.required(post, "name"), **forms.texts(post, "version", "description")}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        return self.mutate(
            lambda: self.create(self.validate(CreateImageForm, body)),
            body=body,
            to=lambda image: self.route("image", image.pk),
            done=lambda image: f"{image} is being made.",
        )

    def why_not(self) -> str:
        """Why no image can be made of it now; "" when it can."""
        raise NotImplementedError

    def create(self, said: dict[str, Any]) -> Image:
        """Call the service with what was said of the image."""
        raise NotImplementedError
