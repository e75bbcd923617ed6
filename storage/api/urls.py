from storage.api import images, snapshots, uploads, volumes

urlpatterns = [
    *images.urlpatterns,
    *uploads.urlpatterns,
    *volumes.urlpatterns,
    *snapshots.urlpatterns,
]
