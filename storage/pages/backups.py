"""Backups of all volumes of a project. They are made on the page of their volume."""

from typing import Any

from django.db.models import QuerySet

from cloud.operations.live import live_operation
from cloud.pages import forms
from cloud.pages.bulk import ForMany
from cloud.pages.deleting import DeletePage
from cloud.pages.generic import ChangePage, ListPage, ResourcePage, VerbPage
from cloud.pages.lists import By
from cloud.problems import Fault, Invalid
from storage.api.backups import BackupPolicyForm, RestoreBackupForm
from storage.api.volumes import CloneVolumeForm, SnapshotForm, VolumeChanges
from storage.backing_up import BACKUP
from storage.models import Backup
from storage.pages.volumes import MAX_CHOICES, SIZE, VerbFormPage, VolumePage, VolumeVerbPage, choices, types_for
from storage.services import backups, drills, policies

NAME_LENGTH = 40  # of the volume, in the name of a snapshot
# Every night, for a week, a month and half a year.
FIRST_POLICY = {
    "schedule": "0 3 * * *", "time_zone": "UTC", "keep_last": 0, "keep_hourly": 0, "keep_daily": 7, "keep_weekly": 4,
    "keep_monthly": 6, "enabled": True,
}  # fmt: skip


class BackupPage(ResourcePage):
    model, key, title = Backup, "backup", "Backups"
    listed_at, section = "backups", "volumes"
    help = "storage#backups"

    def rows(self) -> "QuerySet[Backup]":
        return Backup.objects.filter(project=self.project).select_related("project", "volume__type")


class Backups(BackupPage, ListPage):
    template = "storage/backups/list.html"
    sorts = {
        "made": "-created_at",
        "name": "name",
        "volume": "of__name",
        "size": "-data_bytes",
        "added": "-added_bytes",
    }
    sort = "made"
    filters = (By("volume", "of__name"),)
    statuses = tuple(Backup.Status.values)
    troubled = (Backup.Status.FAILED, Backup.Status.DAMAGED)
    live = "backup operation"

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeleteBackup),)

    def adorn(self, found: "QuerySet[Backup]") -> "QuerySet[Backup]":
        return found.annotate(live_operation=live_operation(BACKUP))


class ChangeBackup(BackupPage, ChangePage):
    template, form = "storage/backups/change.html", VolumeChanges
    fields = {"name": forms.REQUIRED, "labels": forms.LABELS, "protected": forms.FLAG}

    def change(self, changes: dict[str, Any]) -> Backup:
        return backups.update(backup=self.item, actor=self.scope.actor, changes=changes)


class RestoreBackup(BackupPage, VerbFormPage):
    template, form = "storage/backups/restore.html", CloneVolumeForm
    fields = {"name": forms.REQUIRED, "size_gib": SIZE, "type": forms.TEXT, "labels": forms.LABELS}

    def fill(self) -> dict[str, Any]:
        like = self.item.volume.type.name if self.item.volume else "the default"
        return {**super().fill(), "types": [("", f"as the volume has it: {like}"), *types_for(self.project)]}

    def leave(self) -> str:
        return self.the_list

    def act(self, body: dict[str, Any]) -> Any:
        return backups.restore(backup=self.item, actor=self.scope.actor, **body)

    def done(self) -> str:
        return "The volume is here. Attach it to an instance: its host then fetches what is in the backup."

    def after_act(self, result: Any) -> str:
        return self.route("volume", result.pk)


class RestoreOver(VolumeVerbPage):
    """To the volume itself. Somebody has to type its name, as what is on it goes."""

    template, form = "storage/backups/restore_over.html", RestoreBackupForm
    help = "storage#backups"
    fields = {"backup": forms.REQUIRED, "snapshot": forms.TEXT}

    def initial(self) -> dict[str, Any]:
        chosen = self.request.GET.get("backup", "")
        return {"backup": chosen, "snapshot": f"{self.item.name[:NAME_LENGTH].rstrip('-')}-before-restore"}

    def fill(self) -> dict[str, Any]:
        made = Backup.objects.filter(volume=self.item, status__in=(Backup.Status.READY, Backup.Status.DAMAGED))
        offered = choices(made.order_by("-created_at")[:MAX_CHOICES], words_of)
        return {**super().fill(), "backups": offered, "holder": self.item.attachments.first()}

    def act(self, body: dict[str, Any]) -> Any:
        if self.request.POST.get("confirm", "").strip() != self.item.name:
            words = f"Type {self.item.name} here, so that no other volume is replaced by mistake."
            raise Invalid("The name of the volume was not typed.", errors=[Fault("/confirm", words)])
        return backups.restore_over(volume=self.item, actor=self.scope.actor, **body)

    def done(self) -> str:
        return f"{self.item.name} goes back to the backup."


def words_of(backup: Backup) -> str:
    damaged = ", damaged" if backup.status == Backup.Status.DAMAGED else ""
    return f"{backup.name}, {backup.created_at:%Y-%m-%d %H:%M} UTC{damaged}"


class DrillBackup(BackupPage, VerbPage):
    def act(self) -> Any:
        return drills.drill(backup=self.item, actor=self.scope.actor)

    def done(self, result: Any) -> str:
        return f"A host restores {self.item.name} to a file that nobody uses. The result is shown with the backup."

    def after(self) -> str:
        return self.the_list


class DeleteBackup(BackupPage, DeletePage):
    kind = BACKUP

    def delete(self) -> None:
        backups.delete(backup=self.item, actor=self.scope.actor)


class ScheduleBackups(VolumeVerbPage):
    template, form = "storage/backups/schedule.html", BackupPolicyForm
    help = "storage#backups"
    fields = {
        "schedule": forms.REQUIRED,
        "time_zone": forms.REQUIRED,
        **dict.fromkeys(("keep_last", *policies.RULES), SIZE),
        "enabled": forms.FLAG,
    }

    def initial(self) -> dict[str, Any]:
        policy = getattr(self.item, "backup_policy", None)
        if policy is None:
            return FIRST_POLICY
        return {name: getattr(policy, name) for name in self.fields}

    def act(self, body: dict[str, Any]) -> Any:
        return policies.set_policy(volume=self.item, actor=self.scope.actor, **body)

    def done(self) -> str:
        return f"{self.item.name} is backed up by this schedule."


class UnscheduleBackups(VolumePage, VerbPage):
    def act(self) -> Any:
        return policies.drop_policy(volume=self.item, actor=self.scope.actor)

    def done(self, result: Any) -> str:
        return f"{self.item.name} has no schedule for backups any more. Those that are there stay."

    def after(self) -> str:
        return self.route("volume", self.kwargs[self.key])


class BackUpVolume(VolumeVerbPage):
    template, form = "storage/backups/back_up.html", SnapshotForm
    help = "storage#backups"
    fields = {"name": forms.REQUIRED, "labels": forms.LABELS, "protected": forms.FLAG}

    def fill(self) -> dict[str, Any]:
        return {**super().fill(), "why_not": backups.why_not(self.item)}

    def act(self, body: dict[str, Any]) -> Any:
        return backups.create(volume=self.item, actor=self.scope.actor, **body)

    def done(self) -> str:
        return f"{self.item.name} is being backed up."

    def after_act(self, result: Any) -> str:
        return self.route("backups")
