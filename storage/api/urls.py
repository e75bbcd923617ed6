from storage.api import backups, exports, images, snapshots, uploads, volume_types, volumes

urlpatterns = [
    *images.urlpatterns,
    *exports.urlpatterns,
    *uploads.urlpatterns,
    *volumes.urlpatterns,
    *volume_types.urlpatterns,
    *snapshots.urlpatterns,
    *backups.urlpatterns,
]
