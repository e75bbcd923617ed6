"""/api/v1/projects/{project}/images: the project's own, public ones, and those that others share with it."""

from typing import Any

from django.db.models import Q, QuerySet
from django.urls import path
from rest_framework import serializers
from rest_framework.permissions import SAFE_METHODS

from cloud.api.fields import Flag, ReferenceField, as_uuid
from cloud.api.pagination import Filter
from cloud.api.scope import Scope
from cloud.api.serializers import Body
from cloud.api.trash import PURGE, TRASHED, Purge, Restore, WithTrash
from cloud.api.views import Collection, InProject, Item, Verb
from cloud.operations.live import live_operation
from cloud.problems import Forbidden
from cloud.tenancy.models import Project
from storage.api.image_fields import ImageChanges, ImageForm, ImageSerializer
from storage.models import Image
from storage.services import images, images_of, trash


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
    return _shown(visible(scope))


def _shown(found: QuerySet[Image]) -> QuerySet[Image]:
    found = found.select_related("upload", "project").prefetch_related("shares__project")
    return found.annotate(live_operation=live_operation("image"))


class ImageView(WithTrash, InProject):
    serializer = ImageSerializer

    def every(self) -> QuerySet[Image]:
        """With those in the trash that this project may take out."""
        own = Q(project=self.project) | Q(project=None) if self.scope.is_cloud_admin else Q(project=self.project)
        seen = Image.objects.seen_by(self.project).filter(own | Q(trashed_at=None))
        return _shown(seen.by_preference(self.project))


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
        **TRASHED,
    }

    def create(self, body: dict[str, Any]) -> Image:
        """From an upload: send its content to `upload.url` then. From a URL: a host fetches it at once."""
        return images.begin(project=self.project, actor=self.actor, **body)


class OneImage(OwnImage, Item):
    forms = {"PATCH": ImageChanges}
    parameters = {"DELETE": PURGE}

    def change(self, image: Image, body: dict[str, Any]) -> Image:
        """Instances that were launched from it keep what they began with."""
        return images.update(image=image, actor=self.actor, changes=body)

    def remove(self, image: Image) -> dict[str, Any]:
        """To the trash, from where it comes back for a day. Refused while an instance or a volume is made of it. In the
        end its files go when nobody else needs them.
        """
        trash.discard_image(image=image, actor=self.actor, **self.how())
        return self.show(self.every().get(pk=image.pk))


class RestoreImage(Restore, OwnImage):
    kind = "image"


class PurgeImage(Purge, OwnImage):
    kind = "image"


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
    path(f"{P}/images/<str:ref>/restore", RestoreImage.as_view()),
    path(f"{P}/images/<str:ref>/purge", PurgeImage.as_view()),
    path(f"{P}/images/<str:ref>/share", Share.as_view()),
    path(f"{P}/images/<str:ref>/unshare", Unshare.as_view()),
    path(f"{P}/images/<str:ref>/publish", Publish.as_view()),
]
