"""Serial logs, and tickets for consoles."""

import pgtrigger
from django.db import models
from django.db.models.functions import Now

from compute.models.instances import Instance


class ConsoleLog(models.Model):
    """The end of an instance's serial log, as its host last pushed it."""

    instance = models.OneToOneField(Instance, on_delete=models.CASCADE, primary_key=True, related_name="console_log")
    offset = models.PositiveBigIntegerField(default=0)  # of the first byte kept, since the machine was made
    content = models.BinaryField(default=bytes)
    updated_at = models.DateTimeField(db_default=Now())
    ready_offset = models.BigIntegerField(default=-1, db_default=-1)  # of the last READY that was heard
    ready_seconds = models.FloatField(null=True)  # since the kernel began, as the guest says
    ready_at = models.DateTimeField(null=True)

    class Meta:
        triggers = [
            pgtrigger.Trigger(
                name="hint",
                when=pgtrigger.After,
                operation=pgtrigger.Insert | pgtrigger.Update,
                func="""
                    PERFORM pg_notify('hints', json_build_object('project', i.project_id, 'type', 'console',
                        'id', i.id)::text) FROM compute_instance i WHERE i.id = NEW.instance_id;
                    RETURN NULL;
                """,
            ),
        ]


class ConsoleTicket(models.Model):
    """A console URL that was given out and not used: using it deletes it. Only digests of what is secret are here."""

    digest = models.CharField(max_length=64, primary_key=True)
    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="+")
    generation = models.PositiveBigIntegerField()
    kind = models.CharField(max_length=6)  # serial or vnc
    holder = models.CharField(max_length=64)  # digest of the session or token that may use it
    expires_at = models.DateTimeField()
