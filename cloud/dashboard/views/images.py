"""Images: what instances can be launched from, and what each is made of."""

from typing import Any

from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse

from cloud.api.errors import NotFound
from cloud.pages import forms
from cloud.pages.base import Page
from cloud.pages.rows import search
from compute.models import Instance
from storage.models import Image
from storage.services import images_of

MOST_INSTANCES = 20


class Images(Page):
    """The project's own images and the cloud's, each with how many of the project's instances were made from it."""

    template = "dashboard/images/list.html"
    section = "images"

    def images(self) -> QuerySet[Image]:
        of_project = Q(instances__project=self.project)
        return images_of(self.project).annotate(instance_count=Count("instances", filter=of_project))

    def get(self, request: HttpRequest, project: str) -> HttpResponse:
        text = request.GET.get("q", "")
        return self.show({**self.slice(search(self.images(), text), ("name", "id")), "q": text})


class OneImage(Images):
    template = "dashboard/images/image.html"
    image: Any

    def enter(self, **kwargs: Any) -> None:
        super().enter(**kwargs)
        self.image = self.images().filter(pk=kwargs["image"]).first()
        if self.image is None:
            raise NotFound()

    def get(self, request: HttpRequest, project: str, image: str) -> HttpResponse:  # type: ignore[override]
        made = Instance.objects.filter(project=self.project, image=self.image).order_by("-created_at", "-pk")
        body = {"name": f"from-{self.image.name}"[:63], "flavor": "small", "image": self.image.name}
        return self.show(
            {
                "image": self.image,
                "instances": list(made.only("pk", "name", "created_at")[:MOST_INSTANCES]),
                "curl": forms.as_curl("POST", f"projects/{self.project.name}/instances", body),
            }
        )
