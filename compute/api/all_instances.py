"""/api/v1/instances: those of all projects, for admins of the cloud."""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from cloud.api.pagination import Filter
from cloud.api.serializers import ReferenceSerializer
from cloud.api.trash import WithTrash
from cloud.api.views import Collection
from compute.api.instance_serializers import InstanceSerializer
from compute.api.instances import Instances
from compute.models import Instance
from compute.networking import with_addresses
from compute.status import as_listed
from compute.volumes import with_volumes


class InstanceOfCloudSerializer(InstanceSerializer):
    """A virtual machine, and whose it is."""

    project = ReferenceSerializer()

    def to_representation(self, instance: Any) -> dict[str, Any]:
        project = {"id": str(instance.project_id), "name": instance.project.name}
        return {**super().to_representation(instance), "project": project}


class AllInstances(WithTrash, Collection):
    """Those of all projects."""

    serializer = InstanceOfCloudSerializer
    needs_admin = {"GET": True}
    summaries = {"GET": "List instances of all projects"}
    filters = {
        **Instances.filters,
        "project": Filter(serializers.CharField(), "project__name"),
        "host": Filter(serializers.CharField(), "machine__host__name"),
    }

    def every(self) -> QuerySet[Instance]:
        every = as_listed(Instance.objects.select_related("project"), "project__name")
        return with_volumes(with_addresses(every))


urlpatterns = [path("instances", AllInstances.as_view())]
