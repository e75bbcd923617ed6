"""The pages of storage's resources."""

from django.urls import path

from storage.pages import images

P = "projects/<str:project>"

urlpatterns = [
    path(f"{P}/images", images.Images.as_view(), name="images"),
    path(f"{P}/images/<uuid:image>", images.OneImage.as_view(), name="image"),
]
