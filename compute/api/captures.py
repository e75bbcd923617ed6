"""POST …/instances/{instance}/create-image: an image of its disk."""

from typing import Any

from django.urls import path

from compute.api.instance_serializers import InstanceSerializer
from compute.api.instances import InstanceView
from compute.models import Instance
from compute.services.capturing import create_image
from storage.api.captures import CreateImage
from storage.models import Image


class CreateImageOfInstance(CreateImage, InstanceView):  # type: ignore[misc]
    """It goes on meanwhile; what the image has is what is on the disk at one moment. Answers with the image."""

    shows = InstanceSerializer
    summaries = {"POST": "Make an image of an instance"}

    def create(self, row: Instance, said: dict[str, Any]) -> Image:
        return create_image(instance=row, actor=self.actor, **said)


urlpatterns = [path("projects/<str:project>/instances/<str:ref>/create-image", CreateImageOfInstance.as_view())]
