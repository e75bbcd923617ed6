"""POST …/instances/{instance}/create-image: an image of its disk."""

from typing import Any

from django.urls import path

from cloud.api.views import Verb
from compute.api.instances import InstanceView
from compute.models import Instance
from compute.services.capturing import create_image
from storage.api.image_fields import CreateImageForm, ImageSerializer
from storage.api.images import shown_images
from storage.models import Image


class CreateImage(InstanceView, Verb):
    """It goes on meanwhile; what the image has is what is on the disk at one moment. Answers with the image."""

    serializer = ImageSerializer  # type: ignore[assignment]
    summaries = {"POST": "Make an image of an instance"}
    forms = {"POST": CreateImageForm}

    def act(self, instance: Instance, body: dict[str, Any]) -> dict[str, Any]:
        image = create_image(instance=instance, actor=self.actor, **body)
        return self.show(shown_images(self.scope).get(pk=image.pk))

    def show(self, row: Instance | Image) -> dict[str, Any]:
        form = ImageSerializer if isinstance(row, Image) else InstanceView.serializer
        assert form is not None
        return dict(form(row, context=self.context()).data)


urlpatterns = [path("projects/<str:project>/instances/<str:ref>/create-image", CreateImage.as_view())]
