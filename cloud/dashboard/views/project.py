"""Pages about a project as a whole: which one, how it is doing, who is in it, what was done, what it may have."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.costs import budgets, sums
from cloud.dashboard import getting_started
from cloud.events import reading
from cloud.events.pages.actions import folded
from cloud.operations.models import Operation
from cloud.pages.base import LAST_PROJECT, Page, SeeOther
from cloud.tenancy import quota
from cloud.tenancy.pages.quota import in_use
from compute.models import Flavor, KeyPair
from compute.pages import rows
from compute.status import count_of_project
from storage.services import images_of

RECENT_EVENTS = 8
MAX_TROUBLED = 5


class Home(Page):
    """The way in: admins of the cloud begin with the cloud; others with the project that they looked at last."""

    def get(self, request: HttpRequest) -> HttpResponse:
        visible = self.scope.projects()
        last = request.session.get(LAST_PROJECT)
        found = visible.filter(name=last).first() if last else None
        found = found or visible.order_by("created_at").first()
        if self.scope.is_cloud_admin:
            if found:
                request.session[LAST_PROJECT] = found.name  # the way around has a project from the start
            return SeeOther(reverse("cloud"))
        return SeeOther(reverse("overview", args=[found.name]) if found else reverse("projects"))


class Overview(Page):
    """What runs, what is wrong, what is left of the quota, and what was done lately."""

    template = "dashboard/project/overview.html"
    partials = {"overview": "dashboard/project/_overview.html"}
    section = "overview"
    help = "projects#the-overview"

    def get(self, request: HttpRequest, project: str) -> HttpResponse:
        instances = rows.instances_of(self.project)
        counts = count_of_project(self.project.pk)
        troubled = sum(counts.get(status, 0) for status in rows.TROUBLED)
        cost = sums.of(self.project)
        log = reading.log(project_id=self.project.pk)
        live = Operation.objects.filter(project_id=self.project.pk, finished_at=None).order_by("-started_at")
        return self.show(
            {
                "cost": cost,
                "budget": budgets.of(self.project, cost),
                "usage": in_use(quota.usage(self.project)),
                "counts": counts,
                "total": sum(counts.values()),
                "troubled_count": troubled,
                "troubled": list(rows.troubled(instances)[:MAX_TROUBLED]) if troubled else [],
                "live": list(live[:MAX_TROUBLED]),
                "events": folded(log.order_by("-transaction", "-id")[: 3 * RECENT_EVENTS])[:RECENT_EVENTS],
                "has_image": images_of(self.project).exists(),
            }
        )


class GettingStarted(Page):
    """The first steps with the API, as texts that work when they are pasted; also fit to be printed."""

    template = "dashboard/project/getting_started.html"
    section = "getting-started"
    help = "instances#launching"

    def get(self, request: HttpRequest, project: str) -> HttpResponse:
        image = images_of(self.project).order_by("created_at").first()
        flavor = Flavor.objects.filter(enabled=True).order_by("memory_mib", "vcpus", "name").first()
        keypair = KeyPair.objects.filter(project=self.project).order_by("created_at").first()
        facts = getting_started.Facts(
            url=settings.PUBLIC_URL,
            project=self.project.name,
            image=image.name if image else "tiny-linux",
            flavor=flavor.name if flavor else "small",
            keypair=keypair.name if keypair else "",
        )
        return self.show(
            {
                "facts": facts,
                "is_possible": image is not None and flavor is not None,
                "steps": getting_started.shell(facts),
                "program": getting_started.python(facts),
            }
        )
