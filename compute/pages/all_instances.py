"""The instances of all projects, for admins of the cloud."""

from typing import Any, ClassVar

from django.db.models import QuerySet

from cloud.pages.lists import By
from compute.models import Instance
from compute.pages.instances import InstanceTable
from compute.pages.rows import listed
from compute.verb import Verb
from compute.verbs import VERBS


class AllInstances(InstanceTable):
    """As a project's own list, with the project in a column and as a filter."""

    template = "compute/instances/all.html"
    title = "All instances"
    listed_at = section = "all-instances"
    help = "operating#everyday"
    for_cloud_admins = True
    sorts: ClassVar = {**InstanceTable.sorts, "project": ("project__name", "name")}
    filters = (By("project", "project__name"), *InstanceTable.filters)

    def rows(self) -> "QuerySet[Instance]":
        return Instance.objects.filter(trashed_at=None)

    def adorn(self, found: "QuerySet[Instance]") -> "QuerySet[Any]":
        return listed(found.select_related("project"), "project__name")

    def bulk_verbs(self) -> tuple[Verb, ...]:
        return tuple(verb for verb in VERBS.values() if verb.is_for_any_project)
