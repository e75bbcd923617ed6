"""POST …/create-image: an image of a disk that is there already."""

from typing import Any, ClassVar

from rest_framework import serializers

from cloud.api.views import Verb
from storage.api.image_fields import CreateImageForm, ImageSerializer
from storage.api.images import shown_images
from storage.models import Image


class CreateImage(Verb):
    """Answers with the image. A subclass is a view of what has the disk as well; its `create` calls the service."""

    serializer = ImageSerializer
    shows: ClassVar[type[serializers.BaseSerializer[Any]]]  # what has the disk, for its ETag
    forms = {"POST": CreateImageForm}

    def create(self, row: Any, said: dict[str, Any]) -> Image:
        raise NotImplementedError

    def act(self, row: Any, body: dict[str, Any]) -> dict[str, Any]:
        image = self.create(row, body)
        return self.show(shown_images(self.scope).get(pk=image.pk))

    def show(self, row: Any) -> dict[str, Any]:
        form = ImageSerializer if isinstance(row, Image) else self.shows
        return dict(form(row, context=self.context()).data)
