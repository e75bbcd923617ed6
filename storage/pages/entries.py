"""What storage adds to the frame of the pages."""

from django.urls import reverse

from cloud.api.scope import Scope
from cloud.pages import links, navigation, palette, sections, words
from cloud.pages.navigation import Place
from cloud.pages.palette import Finder, Item
from cloud.pages.rows import search
from storage.models import Snapshot, Volume
from storage.pages import caches

navigation.register(
    Place("images", "Images", "images", icon="cube", key="d", order=30),
    Place("volumes", "Volumes", "volumes", icon="disk", key="v", order=31),
    Place("volume-types", "Volume types", "volume-types", icon="disk", key="g", order=42, for_cloud_admins=True),
)
sections.register("host", "storage/sections/host_cache.html", caches.of_host)
sections.register("image", "storage/sections/image_caches.html", caches.of_image)
links.register("volume", "volume", in_project=True)
links.register("volume_type", "volume-type", in_project=False)
links.register("snapshot", "change-snapshot", in_project=True)
links.register("backup", "change-backup", in_project=True)
words.OPERATIONS |= {
    "storage.create_volume": "Making",
    "storage.resize_volume": "Growing",
    "storage.retype_volume": "Changing the type of",
    "storage.snapshot_volume": "Snapshotting",
    "storage.clone_volume": "Cloning",
    "storage.capture_volume": "Setting aside for an image",
    "storage.revert_volume": "Reverting",
    "storage.restore_backup": "Restoring",
    "storage.delete_volume": "Deleting",
    "storage.move_volume": "Moving",
    "storage.move_along": "Moving",
    "storage.take_over": "Taking over",
    "storage.copy_volume": "Copying for a backup",
    "storage.flatten_volume": "Merging layers of",
    "storage.back_up": "Backing up",
    "storage.drill_backup": "Drilling the restore of",
    "storage.delete_backup": "Deleting",
}
words.STEPS |= {
    "wait_for_source": "Wait for what it is made from",
    "make": "Make its files",
    "make_layer": "Make a new layer",
    "serve_anew": "Have its storage host serve that",
    "switch": "Change over to the new layer",
    "tell_holder": "Tell the instance",
    "wait_for_holder": "Wait for the instance",
    "finish": "Finish",
    "keep": "Keep what was there",
    "end": "End",
    "let_go": "Let go of what was kept for it",
    "remove_old": "Remove what nothing needs any more",
    "fit_room": "Give back the room of what was removed",
    "grow": "Grow it",
    "remove_files": "Remove its files",
    "receive": "Copy it to the other host",
    "take_in": "Put it in its place there",
    "take_over": "Say that it is there",
    "fence": "Wait until the host before can write nothing any more",
    "follow": "Wait for what it moves with",
    "wait_for_copy": "Wait until its host has copied it",
    "send": "Send it",
    "try_again": "Try again",
    "forget_backup": "Remove what no other backup has",
}
words.VERBS |= {
    "resize": "resized",
    "retype": "changed the type of",
    "snapshot": "took a snapshot of",
    "revert": "reverted",
    "move": "began to move",
    "take_over": "took over",
    "flatten": "began to merge layers of",
    "restore": "took out of the trash",
    "schedule_backups": "scheduled the backups of",
    "unschedule_backups": "stopped the scheduled backups of",
    "restore_from": "restored a volume from",
    "restore_backup": "restored a backup to",
    "drill": "began a restore drill of",
}


def find_volumes(scope: Scope, text: str, limit: int) -> list[Item]:
    visible = Volume.objects.filter(project__in=scope.projects().values("pk"), trashed_at=None)
    rows = search(visible, text).order_by("name").values_list("pk", "name", "project__name")[:limit]
    return [Item(name, project, reverse("volume", args=[project, pk]), "disk") for pk, name, project in rows]


def find_snapshots(scope: Scope, text: str, limit: int) -> list[Item]:
    """They are shown on the pages of their volumes."""
    visible = Snapshot.objects.filter(project__in=scope.projects().values("pk"), volume__trashed_at=None)
    found = search(visible, text).order_by("name")
    rows = found.values_list("volume_id", "name", "volume__name", "project__name")[:limit]
    return [
        Item(name, f"of {volume} in {project}", reverse("volume", args=[project, pk]), "camera")
        for pk, name, volume, project in rows
    ]


palette.register(Finder("Volumes", find_volumes, order=25))
palette.register(Finder("Snapshots", find_snapshots, order=26))

# Of images
links.register("image", "image", in_project=True)
links.register("image_export", "exports", in_project=True, has_item=False)
words.OPERATIONS |= {
    "storage.import": "Importing",
    "storage.delete_image": "Deleting",
    "storage.export": "Exporting",
    "storage.delete_export": "Deleting",
}
words.STEPS |= {
    "convert": "Look at it and convert it",
    "try_elsewhere": "Let another host try",
    "clear": "Clear up",
    "forget": "Forget it",
    "forget_export": "Remove its file",
    "keep": "Keep it",
}
words.VERBS |= {
    "import": "sent the content of",
    "expire": "gave up",
    "share": "shared",
    "unshare": "stopped sharing",
    "publish": "changed who sees",
    "retry": "went on with",
}
words.limits(20, volumes="Volumes", volume_gib="Volume space", snapshots="Snapshots")
words.limits(21, backups="Backups", backup_gib="Backup space")
words.limits(22, images="Images", image_gib="Image space")
words.tones("good", "available", "in_use", "ready")
words.tones("bad", "failed", "damaged")
