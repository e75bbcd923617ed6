"""/api/v1/projects/{project}/backups: what was on volumes, apart from their hosts. `volumes/{v}/backup` makes one."""

from typing import Any
from zoneinfo import available_timezones

from django.db.models import QuerySet
from django.urls import path
from django.utils import timezone
from rest_framework import serializers

from cloud.api.fields import Flag, Integer, LabelsField, NameField, ReferenceField, Text
from cloud.api.pagination import Filter
from cloud.api.scope import Scope
from cloud.api.serializers import Body
from cloud.api.views import Collection, InProject, Item, Verb
from cloud.operations.api import OperationSerializer
from cloud.operations.live import live_operation
from storage import schedules
from storage.api.volumes import (
    CloneVolumeForm,
    SnapshotForm,
    VolumeChanges,
    VolumeSerializer,
    VolumeView,
    every_volume_of,
)
from storage.backing_up import BACKUP
from storage.models import Backup, Volume
from storage.services import backups, drills, policies
from storage.status import with_status

MAX_KEPT = 1000


def backups_of(scope: Scope) -> QuerySet[Backup]:
    return Backup.objects.filter(project_id=scope.project_id).annotate(live_operation=live_operation(BACKUP))


class BackedUpSerializer(serializers.Serializer):
    """The volume, as it was called then. It may be gone by now."""

    id = serializers.UUIDField()
    name = serializers.CharField()


class BackupSerializer(serializers.Serializer):
    """What was on a volume at one moment, in the store of backups."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    labels = LabelsField()
    volume = BackedUpSerializer(source="of")
    status = serializers.ChoiceField(Backup.Status.values)
    status_reason = serializers.CharField(source="reason")
    size_gib = serializers.IntegerField(help_text="Of the volume then.")
    data_bytes = serializers.IntegerField(help_text="Of the volume, without what is zero; 0 until it is ready.")
    added_bytes = serializers.IntegerField(
        help_text="What the store had not before, as it is stored there: compressed. The rest is shared with others."
    )
    consistency = serializers.SerializerMethodField(
        help_text="`crash`: as after a power cut. `filesystem`: the guest's filesystems were at rest. Null: not yet."
    )
    scheduled = serializers.BooleanField(help_text="Whether the volume's policy made it, which deletes it, too.")
    protected = serializers.BooleanField(help_text="Whether it refuses to be deleted.")
    verified_at = serializers.DateTimeField(allow_null=True, help_text="When all of it was last read back.")
    drilled_at = serializers.DateTimeField(allow_null=True, help_text="When it was last restored in a drill.")
    drill_problem = serializers.CharField(help_text="Why it could not be restored then; empty when it could.")
    drill_found = serializers.ListField(
        child=serializers.CharField(), help_text="What was on it then: filesystems, partitions; empty: nothing known."
    )
    operation = OperationSerializer(source="live_operation", allow_null=True, help_text="What is under way.")
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()

    def get_consistency(self, backup: Backup) -> str | None:
        return backup.consistency or None


class BackupView(InProject):
    serializer = BackupSerializer

    def rows(self) -> QuerySet[Backup]:
        return backups_of(self.scope)


class Backups(BackupView, Collection):
    filters = {
        "name": Filter(serializers.CharField()),
        "status": Filter(serializers.ChoiceField(Backup.Status.values)),
        "volume": Filter(serializers.CharField(help_text="The name that the volume had."), "of__name"),
        "scheduled": Filter(serializers.BooleanField()),
    }


class OneBackup(BackupView, Item):
    forms = {"PATCH": VolumeChanges}

    def change(self, backup: Backup, body: dict[str, Any]) -> Backup:
        """A name, labels, and whether it is protected from being deleted."""
        return backups.update(backup=backup, actor=self.actor, changes=body)

    def remove(self, backup: Backup) -> Backup:
        """Any one can go: what others need of it stays. One that is being made is ended."""
        return backups.delete(backup=backup, actor=self.actor)


class RestoreBackup(BackupView, Verb):
    serializer = VolumeSerializer  # type: ignore[assignment]
    summaries = {"POST": "Restore a backup to a new volume"}
    forms = {"POST": CloneVolumeForm}

    def act(self, backup: Backup, body: dict[str, Any]) -> dict[str, Any]:
        """A new volume with what the backup has. The host where it is first attached fetches it. Answers with it."""
        volume = backups.restore(backup=backup, actor=self.actor, **body)
        return self.show(with_status(every_volume_of(self.scope)).get(pk=volume.pk))

    def show(self, row: Backup | Volume) -> dict[str, Any]:
        form = BackupSerializer if isinstance(row, Backup) else VolumeSerializer
        return dict(form(row, context=self.context()).data)


class DrillBackup(BackupView, Verb):
    summaries = {"POST": "Prove that a backup can be restored"}

    def act(self, backup: Backup, body: dict[str, Any]) -> Backup:
        """A host restores it to a file that nobody uses, reads every block back, says what was found, and removes the
        file. It counts in no quota. `drilled_at`, `drill_problem` and `drill_found` have the result."""
        drills.drill(backup=backup, actor=self.actor)
        return backup


class RestoreBackupForm(Body):
    backup = ReferenceField(backups_of)
    snapshot = NameField(required=False, help_text="What it is to be called that keeps what is on the volume now.")


class RestoreOver(VolumeView, Verb):
    summaries = {"POST": "Restore a backup to the volume that it is of"}
    forms = {"POST": RestoreBackupForm}

    def act(self, volume: Volume, body: dict[str, Any]) -> Volume:
        """The volume has again what it had then, once its host has fetched all of it. What was written since is lost,
        unless you name a snapshot that keeps it; the snapshots that there are stay. It is attached to nothing, or to
        an instance that is stopped."""
        backups.restore_over(volume=volume, actor=self.actor, **body)
        return volume


class BackUp(VolumeView, Verb):
    serializer = BackupSerializer  # type: ignore[assignment]
    summaries = {"POST": "Back up a volume"}
    forms = {"POST": SnapshotForm}

    def act(self, volume: Volume, body: dict[str, Any]) -> dict[str, Any]:
        """Keep what is on it now apart from its host, also while a guest uses it. Answers with the backup."""
        backup = backups.create(volume=volume, actor=self.actor, **body)
        return self.show(backups_of(self.scope).get(pk=backup.pk))

    def show(self, row: Volume | Backup) -> dict[str, Any]:
        form = BackupSerializer if isinstance(row, Backup) else VolumeSerializer
        return dict(form(row, context=self.context()).data)


class KeepField(Integer):
    """How many stay."""

    def __init__(self) -> None:
        super().__init__(min_value=0, max_value=MAX_KEPT, default=0)


class BackupPolicyForm(Body):
    """At least one of the numbers is not 0."""

    schedule = Text(
        max_length=100, help_text="As in a crontab: minute, hour, day of the month, month, weekday. Hourly at most."
    )
    time_zone = Text(max_length=64, default="UTC", help_text="Such as Europe/Berlin.")
    keep_last = KeepField()
    keep_hourly = KeepField()
    keep_daily = KeepField()
    keep_weekly = KeepField()
    keep_monthly = KeepField()
    enabled = Flag(default=True)

    def validate_schedule(self, schedule: str) -> str:
        try:
            first = schedules.next_after(schedule, "UTC", timezone.now())
        except schedules.NoSchedule as problem:
            raise serializers.ValidationError(str(problem)) from problem
        if first is None:
            raise serializers.ValidationError("None of these months has such a day: it would never come.")
        return schedule

    def validate_time_zone(self, name: str) -> str:
        if name not in available_timezones():
            raise serializers.ValidationError("This is no time zone. Give one such as Europe/Berlin, or UTC.")
        return name

    def validate(self, body: dict[str, Any]) -> dict[str, Any]:
        if not any(body[name] for name in ("keep_last", *policies.RULES)):
            raise serializers.ValidationError("Say how many backups are to stay, for example keep_daily 7.")
        return body


class ScheduleBackups(VolumeView, Verb):
    summaries = {"POST": "Back up a volume by a schedule"}
    forms = {"POST": BackupPolicyForm}

    def act(self, volume: Volume, body: dict[str, Any]) -> Volume:
        """Back it up regularly from now on. Of the last hours, days, weeks and months that have a backup the newest one
        stays, and the last ones; the others are deleted, unless they are protected."""
        policies.set_policy(volume=volume, actor=self.actor, **body)
        return volume


class UnscheduleBackups(VolumeView, Verb):
    summaries = {"POST": "Stop the scheduled backups of a volume"}

    def act(self, volume: Volume, body: dict[str, Any]) -> Volume:
        """Back it up regularly no longer. The backups that are there stay."""
        policies.drop_policy(volume=volume, actor=self.actor)
        return volume


P = "projects/<str:project>"
urlpatterns = [
    path(f"{P}/backups", Backups.as_view()),
    path(f"{P}/backups/<str:ref>", OneBackup.as_view()),
    path(f"{P}/backups/<str:ref>/restore", RestoreBackup.as_view()),
    path(f"{P}/backups/<str:ref>/drill", DrillBackup.as_view()),
    path(f"{P}/volumes/<str:ref>/backup", BackUp.as_view()),
    path(f"{P}/volumes/<str:ref>/restore-backup", RestoreOver.as_view()),
    path(f"{P}/volumes/<str:ref>/schedule-backups", ScheduleBackups.as_view()),
    path(f"{P}/volumes/<str:ref>/unschedule-backups", UnscheduleBackups.as_view()),
]
