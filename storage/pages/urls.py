"""The pages of storage's resources."""

from django.urls import path

from cloud.pages.bulk import list_routes
from storage.pages import backups, exports, images, snapshots, volume_types, volumes

P = "projects/<str:project>"
V = f"{P}/volumes/<uuid:volume>"
C = "cloud/volume-types/<uuid:volume_type>"
S = f"{P}/snapshots/<uuid:snapshot>"
B = f"{P}/backups/<uuid:backup>"

urlpatterns = [
    *list_routes(f"{P}/images", images.Images),
    path(f"{P}/images/import", images.ImportImage.as_view(), name="import-image"),
    path(f"{P}/images/<uuid:image>", images.OneImage.as_view(), name="image"),
    path(f"{P}/images/<uuid:image>/change", images.ChangeImage.as_view(), name="change-image"),
    path(f"{P}/images/<uuid:image>/deprecate", images.DeprecateImage.as_view(), name="deprecate-image"),
    path(f"{P}/images/<uuid:image>/delete", images.DeleteImage.as_view(), name="delete-image"),
    path(f"{P}/images/<uuid:image>/share", images.ShareImage.as_view(), name="share-image"),
    path(f"{P}/images/<uuid:image>/unshare", images.UnshareImage.as_view(), name="unshare-image"),
    path(f"{P}/images/<uuid:image>/publish", images.PublishImage.as_view(), name="publish-image"),
    path(f"{P}/images/<uuid:image>/export", exports.ExportImage.as_view(), name="export-image"),
    *list_routes(f"{P}/exports", exports.Exports),
    path(f"{P}/exports/<uuid:export>/delete", exports.DeleteExport.as_view(), name="delete-export"),
    *list_routes(f"{P}/volumes", volumes.Volumes),
    path(V, volumes.OneVolume.as_view(), name="volume"),
    path(f"{V}/change", volumes.ChangeVolume.as_view(), name="change-volume"),
    path(f"{V}/resize", volumes.ResizeVolume.as_view(), name="resize-volume"),
    path(f"{V}/retype", volumes.RetypeVolume.as_view(), name="retype-volume"),
    path(f"{V}/move", volumes.MoveVolume.as_view(), name="move-volume"),
    path(f"{V}/snapshot", volumes.SnapshotVolume.as_view(), name="snapshot-volume"),
    path(f"{V}/clone", volumes.CloneVolume.as_view(), name="clone-volume"),
    path(f"{V}/back-up", backups.BackUpVolume.as_view(), name="back-up-volume"),
    path(f"{V}/create-image", volumes.CreateImage.as_view(), name="create-image-of-volume"),
    path(f"{V}/restore-backup", backups.RestoreOver.as_view(), name="restore-backup-over"),
    path(f"{V}/schedule-backups", backups.ScheduleBackups.as_view(), name="schedule-backups"),
    path(f"{V}/unschedule-backups", backups.UnscheduleBackups.as_view(), name="unschedule-backups"),
    path(f"{V}/revert", volumes.RevertVolume.as_view(), name="revert-volume"),
    path(f"{V}/delete", volumes.DeleteVolume.as_view(), name="delete-volume"),
    *list_routes("cloud/volume-types", volume_types.VolumeTypes),
    path(C, volume_types.OneVolumeType.as_view(), name="volume-type"),
    path(f"{C}/make-default", volume_types.MakeDefault.as_view(), name="make-default-volume-type"),
    path(f"{C}/delete", volume_types.DeleteVolumeType.as_view(), name="delete-volume-type"),
    *list_routes(f"{P}/snapshots", snapshots.Snapshots),
    path(f"{S}/change", snapshots.ChangeSnapshot.as_view(), name="change-snapshot"),
    path(f"{S}/create-image", snapshots.CreateImage.as_view(), name="create-image-of-snapshot"),
    path(f"{S}/delete", snapshots.DeleteSnapshot.as_view(), name="delete-snapshot"),
    *list_routes(f"{P}/backups", backups.Backups),
    path(f"{B}/change", backups.ChangeBackup.as_view(), name="change-backup"),
    path(f"{B}/restore", backups.RestoreBackup.as_view(), name="restore-backup"),
    path(f"{B}/drill", backups.DrillBackup.as_view(), name="drill-backup"),
    path(f"{B}/delete", backups.DeleteBackup.as_view(), name="delete-backup"),
]
