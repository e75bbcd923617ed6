"""An image of an instance, on the dashboard."""

from typing import Any

from compute import why_not
from compute.pages.instances import InstanceItemPage
from compute.services.capturing import create_image
from storage.models import Image
from storage.pages.captures import CreateImagePage


class CreateImage(InstanceItemPage, CreateImagePage):
    """An image of its disk."""

    template = "compute/instances/create_image.html"
    help = "images#from-an-instance"

    def initial(self) -> dict[str, Any]:
        return {"name": f"{self.item.name}-image"[:63]}

    def why_not(self) -> str:
        return why_not.create_image(self.item)

    def create(self, said: dict[str, Any]) -> Image:
        return create_image(instance=self.item, actor=self.scope.actor, **said)
