import uuid

from django.db import models

from cloud.hosts.hosted import Hosted
from cloud.tenancy.models import NameField, Project


class Thing(Hosted):
    """Something that is ready on a host, once the thing that it needs is."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    name = NameField()
    needs = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="+")

    def __str__(self) -> str:
        return self.name
