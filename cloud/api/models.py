"""What the API itself keeps: answers to mutations that carried an Idempotency-Key."""

from django.db import models
from django.db.models.functions import Now


class IdempotencyKey(models.Model):
    """One key of one caller, its request, and the answer; written in the transaction of the change."""

    caller = models.CharField(max_length=48)  # "token:<id>" or "user:<id>"
    key = models.CharField(max_length=64)
    request = models.CharField(max_length=64)  # SHA-256 of method, path, query and body
    status = models.PositiveSmallIntegerField(default=0)
    headers = models.JSONField(default=dict)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["caller", "key"], name="one_answer_per_idempotency_key")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_key_age")]
