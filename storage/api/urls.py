from storage.api import exports, images, snapshots, uploads, volumes

urlpatterns = [
    *images.urlpatterns,
    *exports.urlpatterns,
    *uploads.urlpatterns,
    *volumes.urlpatterns,
    *snapshots.urlpatterns,
]
