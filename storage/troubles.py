"""What can be wrong with storage."""

import shutil
import time
from datetime import timedelta

from django.db.models import F
from django.db.models.functions import Now

from cloud.hosts.hosted import BROKEN, GONE
from cloud.hosts.models import Host
from cloud.hosts.troubles import told_of
from cloud.intake import MIN_FREE_BYTES
from cloud.operations.models import Operation
from cloud.operations.troubles import MAX_SHOWN, Case, Looked, of_operations, trouble
from storage import losing, peers, pools
from storage.models import Backup, BackupPolicy, Volume, VolumeOnHost
from storage.models.images import GIB
from storage.shipping import Shipping
from storage.store import incoming, store
from storage.workflows.exports import ExportImage
from storage.workflows.images import ImportImage

PATIENCE = timedelta(minutes=1)
SECONDS_UNSENT = 900.0


@trouble(
    "Damaged image files on hosts",
    "The host throws such a file away and fetches it again, and tells of it until its worker restarts. Look whether "
    "its disk is failing; machines that it started from the file before may have read wrong data.",
)
def damaged_files() -> Looked:
    return told_of("image cache")


@trouble(
    "Hosts that cannot serve their image cache",
    "Nothing stops: other hosts fetch images from the store. Put right what the words name (PILEUS_PEER_ADDRESS, "
    "PILEUS_PEER_LISTEN, PILEUS_PEER_DOWNLOADS), or take the address away from the host.",
)
def not_serving() -> Looked:
    return told_of("peers")


@trouble(
    "Image caches that other hosts cannot fetch from",
    "Nothing stops: the store sent the files. Look whether a firewall between the hosts lets the port of the host's "
    "PILEUS_PEER_ADDRESS through, and whether its clock is right. The alert ends with the next download that works, or "
    "after an hour.",
)
def unreachable_caches() -> Looked:
    return peers.failing(is_wrong=False)


@trouble(
    "Image caches that sent wrong bytes",
    "Whoever fetched has noticed, and has the right file. The host reads its own copy, and throws it away if it is "
    "damaged; if that is not told here too, look at its memory, and whether somebody else has taken the host over. "
    "This file is not fetched there for a day; then the alert ends.",
)
def wrong_caches() -> Looked:
    return peers.failing(is_wrong=True)


@trouble(
    "Shared folders that do not answer",
    "Guests with volumes there stand still until the file server answers, and then go on; work on these volumes is "
    "refused until then, and tried again. Look at the file server and the network between it and the host.",
)
def silent_folders() -> Looked:
    return told_of("shared folder")


@trouble(
    "Ceph pools that hosts cannot use",
    "No volume there can be attached, grown or deleted on these hosts, and guests that have one open wait. Look at the "
    "cluster (`ceph health detail`), at the network between, and at the folder `ceph` of the agent's home.",
)
def unusable_clusters() -> Looked:
    return told_of("Ceph")


@trouble(
    "Storage hosts that serve no further volumes",
    "Instances on other hosts that have a volume there may wait, and no further one can be attached. The host says "
    "what it lacks; docs/operating.md, “Storage hosts”, says what its file `serves` needs.",
)
def unfit_storage_hosts() -> Looked:
    return told_of("storage host")


@trouble(
    "Volumes in error",
    "The reason comes from the host, which looks again each minute: a volume whose file or folder is back recovers by "
    "itself. What is lost comes back from a backup.",
)
def broken_volumes() -> Looked:
    here = VolumeOnHost.objects.filter(seen__in=(BROKEN, GONE), host=F("volume__active__host"))
    broken = here.filter(volume__trashed_at=None).select_related("volume__project").order_by("seen_at")
    found = [
        Case("volume", str(one.volume_id), one.volume.name, one.seen_problem, one.seen_at, one.volume.project.name)
        for one in broken[: MAX_SHOWN + 1]
    ]
    return (len(found) if len(found) <= MAX_SHOWN else broken.count()), found[:MAX_SHOWN]


@trouble(
    "Hosts that say something else of a pool than others",
    "What most say is believed, and of two the smaller size. Look at the shared folder or the Ceph pool on that host, "
    "and whether somebody else has taken it over.",
)
def doubtful_pools() -> Looked:
    ids = dict(Host.objects.values_list("name", "pk"))
    found = [Case("host", str(ids[host]), host, words, None) for host, words in pools.doubtful() if host in ids]
    return len(found), found[:MAX_SHOWN]


@trouble(
    "Volumes that were lost with their host",
    "Nothing brings back what was on them but a backup, which is restored to a new volume; then delete them. The alert "
    "ends when they are deleted.",
)
def lost_volumes() -> Looked:
    lost = Volume.objects.filter(failed_reason__in=(losing.LOST, losing.LEFT_BEHIND), trashed_at=None)
    found = [
        Case("volume", str(one.pk), one.name, one.failed_reason, None, one.project.name)
        for one in lost.select_related("project").order_by("project__name", "name")[: MAX_SHOWN + 1]
    ]
    return (len(found) if len(found) <= MAX_SHOWN else lost.count()), found[:MAX_SHOWN]


@trouble(
    "Images that no host can make",
    "An import needs a host that is in service, has qemu-img (its page says so) and room on its disk: join one, "
    "install qemu-utils on one, or make room.",
)
def waiting_imports() -> Looked:
    waiting = Operation.objects.filter(
        kind=ImportImage.kind, step=ImportImage.place.__name__, finished_at=None, started_at__lt=Now() - PATIENCE
    )
    return of_operations(waiting, "started_at")


@trouble(
    "Exports that no host can make",
    "An export needs a host that is in service, has qemu-img (its page says so) and room on its disk: join one, "
    "install qemu-utils on one, or make room.",
)
def waiting_exports() -> Looked:
    waiting = Operation.objects.filter(
        kind=ExportImage.kind, step=ExportImage.place.__name__, finished_at=None, started_at__lt=Now() - PATIENCE
    )
    return of_operations(waiting, "started_at")


@trouble(
    "Scheduled backups that cannot begin",
    "They are tried again each minute. The reason says what hinders them; the page of the volume has its schedule.",
)
def late_backups() -> Looked:
    late = BackupPolicy.objects.exclude(problem_since=None).filter(enabled=True, volume__trashed_at=None)
    found = [
        Case("volume", str(one.volume_id), one.volume.name, one.problem, one.problem_since, one.volume.project.name)
        for one in late.select_related("volume__project").order_by("problem_since")
    ]
    return len(found), found[:MAX_SHOWN]


@trouble(
    "Damaged backups",
    "Some of their blocks cannot be read back. Back the volume up again: what it still has is stored again. Look "
    "whether the disk of the backup store is failing.",
)
def damaged_backups() -> Looked:
    damaged = Backup.objects.filter(status=Backup.Status.DAMAGED).select_related("project").order_by("verified_at")
    found = [Case("backup", str(one.pk), one.name, one.reason, one.verified_at, one.project.name) for one in damaged]
    return len(found), found[:MAX_SHOWN]


@trouble(
    "Backups that could not be restored in a drill",
    "Back the volume up again: what it still has is stored again. Then drill the new backup on its page. Look whether "
    "the disk of the backup store is failing.",
)
def failed_drills() -> Looked:
    failed = Backup.objects.exclude(drill_problem="").select_related("project").order_by("drilled_at")
    found = [
        Case("backup", str(one.pk), one.name, one.drill_problem, one.drilled_at, one.project.name)
        for one in failed[:MAX_SHOWN]
    ]
    return failed.count(), found


@trouble(
    "The image store is full",
    "Uploads are refused until there is room: delete images that nobody needs, or give the store a larger disk.",
)
def full_store() -> Looked:
    folder = incoming()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free >= 2 * MIN_FREE_BYTES:
        return 0, []
    return 1, [Case("image-store", str(folder), str(folder), f"{free / GIB:.1f} GiB are free", None)]


@trouble(
    "Image files that wait for the bucket",
    "They are safe in the folder of uploads, and are served from there, until the bucket takes them. If it does not "
    "serve, the failing task storage.tend_buckets says why; otherwise the way to it is too slow.",
)
def unsent_files() -> Looked:
    images = store()
    unsent = images.unsent(time.time() - SECONDS_UNSENT) if isinstance(images, Shipping) else []
    words = "it is not in the bucket yet"
    return len(unsent), [Case("image-store", name, name[:12], words, None) for name in unsent[:MAX_SHOWN]]
