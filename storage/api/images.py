"""/api/v1/projects/{project}/images: the project's own, public ones, and those that others share with it."""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers
from rest_framework.permissions import SAFE_METHODS

from cloud.api.fields import Flag, ReferenceField, as_uuid
from cloud.api.pagination import Filter
from cloud.api.scope import Scope
from cloud.api.serializers import Body
from cloud.api.views import Collection, InProject, Item, Verb
from cloud.operations.live import live_operation
from cloud.problems import Forbidden
from cloud.tenancy.models import Project
from storage.api.image_fields import ImageChanges, ImageForm, ImageSerializer
from storage.models import Image
from storage.services import images, images_of


def visible(scope: Scope) -> QuerySet[Image]:
    """The images that instances of the scope's project may be launched from."""
    assert scope.project is not None
    return images_of(scope.project)


class OtherProject(ReferenceField):
    """Any project by its id; by its name one that the caller may see."""

    def __init__(self) -> None:
        super().__init__(lambda scope: scope.projects())

    def to_internal_value(self, data: Any) -> Any:
        ident = as_uuid(data) if isinstance(data, str) else None
        found = ident and Project.objects.filter(pk=ident).first()
        return found or super().to_internal_value(data)


def shown_images(scope: Scope) -> QuerySet[Image]:
    """The same, with all that showing them needs."""
    shown = visible(scope).select_related("upload", "project").prefetch_related("shares__project")
    return shown.annotate(live_operation=live_operation("image"))


class ImageView(InProject):
    serializer = ImageSerializer

    def rows(self) -> QuerySet[Image]:
        return shown_images(self.scope)


class OwnImage(ImageView):
    """One that this project may change: its own, and for admins of the cloud every one that they see."""

    def one(self, reference: str, *, name: str = "name") -> Any:
        image = super().one(reference, name=name)
        if self.request.method not in SAFE_METHODS:
            require_own(self.scope, image)
        return image


def require_own(scope: Scope, image: Image) -> None:
    """Raises Forbidden for what is shared or public: others change it."""
    if image.project_id != scope.project_id and not scope.is_cloud_admin:
        raise Forbidden(f"{image} is not this project's own.")


class Images(ImageView, Collection):
    forms = {"POST": ImageForm}
    filters = {
        "name": Filter(serializers.CharField()),
        "version": Filter(serializers.CharField()),
        "architecture": Filter(serializers.ChoiceField(Image.Architecture.choices)),
        "os": Filter(serializers.CharField()),
        "status": Filter(serializers.ChoiceField(Image.Status.values)),
        "visibility": Filter(serializers.ChoiceField(Image.Visibility.values)),
    }

    def create(self, body: dict[str, Any]) -> Image:
        """From an upload: send its content to `upload.url` then. From a URL: a host fetches it at once."""
        return images.begin(project=self.project, actor=self.actor, **body)


class OneImage(OwnImage, Item):
    forms = {"PATCH": ImageChanges}

    def change(self, image: Image, body: dict[str, Any]) -> Image:
        """Instances that were launched from it keep what they began with."""
        return images.update(image=image, actor=self.actor, changes=body)

    def remove(self, image: Image) -> Image:
        """Refused while an instance or a volume is made of it. Its files go when nobody else needs them."""
        return images.delete(image=image, actor=self.actor)


class ShareForm(Body):
    project = OtherProject()


class Share(OwnImage, Verb):
    """With another project, by its id, or by its name if you are in it."""

    forms = {"POST": ShareForm}

    def act(self, image: Image, body: dict[str, Any]) -> Image:
        return images.share(image=image, actor=self.actor, **body)


class Unshare(OwnImage, Verb):
    """What was launched from it stays."""

    forms = {"POST": ShareForm}

    def act(self, image: Image, body: dict[str, Any]) -> Image:
        return images.unshare(image=image, actor=self.actor, **body)


class PublishForm(Body):
    public = Flag()


class Publish(OwnImage, Verb):
    """Show it in every project, or take that back."""

    forms = {"POST": PublishForm}
    needs_admin = {"POST": True}

    def act(self, image: Image, body: dict[str, Any]) -> Image:
        return images.publish(image=image, actor=self.actor, **body)


P = "projects/<str:project>"
urlpatterns = [
    path(f"{P}/images", Images.as_view()),
    path(f"{P}/images/<str:ref>", OneImage.as_view()),
    path(f"{P}/images/<str:ref>/share", Share.as_view()),
    path(f"{P}/images/<str:ref>/unshare", Unshare.as_view()),
    path(f"{P}/images/<str:ref>/publish", Publish.as_view()),
]
