"""Hosts that fill layers: those who wait for it see how far it is, and are patient while it goes on."""

from datetime import timedelta

from django.db.models import Q
from django.db.models.functions import Now

from cloud.operations.models import Operation
from cloud.operations.workflow import Topic
from storage import hosting, trees
from storage.models import Layer

PATIENCE = timedelta(minutes=10)  # from the last piece on


def note(layer: Layer, *, part: int | None = None, percent: int | None = None) -> None:
    """A host has asked for a piece of what it fills a layer with; `part`: for this GiB of it, with those before;
    `percent`: so much of it is done."""
    ids = [volume.pk for volume in trees.volumes_on(layer)]
    topics = [str(Topic(hosting.VOLUME, ident)) for ident in ids]
    concerned = Q(subject_type=hosting.VOLUME, subject_id__in=ids) | Q(waits_for__overlap=topics)
    live = Operation.objects.filter(concerned, finished_at=None, outcome="")
    live.filter(deadline_at__lt=Now() + PATIENCE - timedelta(minutes=1)).update(deadline_at=Now() + PATIENCE)
    if part is not None:
        live.update(progress_done=part, progress_of=layer.size_gib, progress_unit="GiB")
    if percent is not None:
        live.update(progress_done=percent, progress_of=100, progress_unit="%")
