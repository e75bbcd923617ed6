"""Verbs for the instances that are selected in the list: asked about on one page, told about one by one."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.api.fields import as_uuid
from cloud.pages import forms
from cloud.pages.base import FormPage
from cloud.problems import Fault, Problem
from compute import bulk
from compute.api.bulk import MOST, ActionForm
from compute.pages import offers, rows
from compute.pages.actions import actions_for, dialog_of
from compute.verbs import VERBS

RESULTS = "bulk_results"  # in the session, until the list has shown them


class Selected(FormPage):
    """Asks about all that are selected, and says of which it is known that it will be refused."""

    template = "compute/instances/selected.html"
    partials = {"dialog-body": "compute/instances/_selected.html"}
    section = "instances"

    @property
    def asked(self) -> Any:
        return self.request.POST if self.request.method == "POST" else self.request.GET

    def fill(self) -> dict[str, Any]:
        verb = self.asked.get("verb", "")
        ids = [ident for given in self.asked.getlist("item")[:MOST] if (ident := as_uuid(given))]
        found = list(rows.instances_of(self.project).filter(pk__in=ids).order_by("name"))
        if verb not in VERBS or not found:
            raise NothingSelected()
        references = [instance.name for instance in found]
        sent = {"verb": verb, "instances": references, **({"suffix": "copy"} if VERBS[verb].makes_instances else {})}
        return {
            "verb": VERBS[verb],
            "dialog": dialog_of(f"{verb}_many"),
            "says": VERBS[verb].says_for_many,
            **offers.of(verb, self.project),
            "instances": found,
            "picked": [(instance, actions_for(instance, role=self.scope.role)[verb]) for instance in found],
            "disk_gib": sum(instance.disk_gib for instance in found),
            "back": self.back(),
            "vcpus": sum(instance.vcpus for instance in found),
            "memory_mib": sum(instance.memory_mib for instance in found),
            "curl": forms.as_curl("POST", f"projects/{self.project.name}/instance-actions", sent),
        }

    def back(self) -> str:
        """The list as it was filtered."""
        there, here = self.asked.get("to", ""), reverse("instances", args=[self.project.name])
        return there if there == here or there.startswith(f"{here}?") else here

    def read(self) -> dict[str, Any]:
        post, verb = self.request.POST, self.request.POST.get("verb", "")
        how = forms.body(post, VERBS[verb].for_many) if verb in VERBS else {}
        return {"verb": verb, "instances": post.getlist("item"), **how}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        def act() -> list[bulk.Result]:
            asked = self.validate(ActionForm, body)
            references = asked.pop("instances")
            return bulk.act(project=self.project, actor=self.scope.actor, references=references, **asked)

        return self.mutate(act, body=body, to=self.back(), done=self.keep)

    def keep(self, results: list[bulk.Result]) -> str:
        """Leave the results for the list to show, once. They are its business: there are no other words."""
        verb = VERBS[self.request.POST["verb"]]
        self.request.session[RESULTS] = {
            "project": str(self.project.pk),
            "verb": verb.name,
            "undo": verb.taken_back_by,
            "refused": [
                {
                    "name": result.instance.name if result.instance else result.reference,
                    "id": str(result.instance.pk) if result.instance else "",
                    "words": result.problem.detail,
                }
                for result in results
                if result.problem
            ],
            "done": [
                {"name": result.instance.name, "id": str(result.instance.pk)}
                for result in results
                if result.operation and result.instance
            ],
        }
        return ""


class NothingSelected(Problem):
    """A verb without anything to do it to."""

    title = "Nothing is selected"

    def __init__(self) -> None:
        words = "Select instances in the list first. What was selected may be gone by now."
        super().__init__(words, errors=[Fault("/instance", words)])


def take_results(request: HttpRequest, project_id: Any) -> dict[str, Any] | None:
    """The results of the last verb for many, if this project's list has not shown them yet."""
    kept = request.session.get(RESULTS)
    if kept is None or kept["project"] != str(project_id):
        return None
    del request.session[RESULTS]
    return dict(kept)
