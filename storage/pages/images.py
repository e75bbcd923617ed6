"""Images: what instances can be launched from, and what each is made of."""

from typing import Any

from django.db.models import QuerySet

from cloud.pages import forms, sections
from cloud.pages.generic import ItemPage, ListPage, ResourcePage
from storage.models import Image
from storage.services import images_of


class ImagePage(ResourcePage):
    """The project's own images and the cloud's, each with what of the project was made from it."""

    model, key, title = Image, "image", "Images"
    listed_at = section = "images"

    def rows(self) -> "QuerySet[Image]":
        return images_of(self.project).annotate(**sections.counts("image", project=self.project))


class Images(ImagePage, ListPage):
    template = "storage/images/list.html"


class OneImage(ImagePage, ItemPage):
    template = "storage/images/image.html"

    def fill(self) -> dict[str, Any]:
        body = {"name": f"from-{self.item.name}"[:63], "flavor": "small", "image": self.item.name}
        return {**super().fill(), "curl": forms.as_curl("POST", f"projects/{self.project.name}/instances", body)}
