from storage.api import images, snapshots, volumes

urlpatterns = [
    *images.urlpatterns,
    *volumes.urlpatterns,
    *snapshots.urlpatterns,
]
