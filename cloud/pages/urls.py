from django.urls import path

from cloud.pages import views

urlpatterns = [path("palette", views.Palette.as_view(), name="palette")]
