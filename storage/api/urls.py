from storage.api import images

urlpatterns = images.urlpatterns
