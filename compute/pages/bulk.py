"""Verbs for the instances that are selected in the list."""

from typing import Any

from django.http import HttpResponse

from cloud import trash
from cloud.pages import forms
from cloud.pages.bulk import Result, SelectedPage
from cloud.tenancy.models import Role
from compute import bulk
from compute.api.bulk import MAX_INSTANCES, ActionForm
from compute.pages import offers
from compute.pages.actions import actions_for, dialog_of
from compute.verb import Verb
from compute.verbs import VERBS


class Selected(SelectedPage):
    """Takes what a verb takes, and says what is known already of why some will be refused."""

    partials = {"dialog-body": "compute/instances/_selected.html"}
    template = "compute/instances/selected.html"
    role = Role.VIEWER
    max_selected = MAX_INSTANCES

    def tried(self, verb: Verb, found: list[Any]) -> dict[str, Any]:
        names = [instance.name for instance in found]
        sent = {"verb": verb.name, "instances": names, **({"suffix": "copy"} if verb.makes_instances else {})}
        return {
            "dialog": dialog_of(f"{verb.name}_many"),
            "says": verb.says_for_many,
            **offers.of(verb.name, self.project),
            "picked": [(one, actions_for(one, role=self.scope.role)[verb.name].why_not) for one in found],
            "disk_gib": sum(instance.disk_gib for instance in found),
            "vcpus": sum(instance.vcpus for instance in found),
            "memory_mib": sum(instance.memory_mib for instance in found),
            "curl": forms.as_curl("POST", f"projects/{self.project.name}/instance-actions", sent),
        }

    def read(self) -> dict[str, Any]:
        post, verb = self.request.POST, self.request.POST.get("verb", "")
        how = forms.body(post, VERBS[verb].for_many) if verb in VERBS else {}
        return {"verb": verb, "instances": post.getlist("item"), **how}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        verb = self.verb()

        def act() -> list[Result]:
            asked = self.validate(ActionForm, body)
            references = asked.pop("instances")
            found = bulk.act(project=self.project, actor=self.scope.actor, references=references, **asked)
            return [_told(result) for result in found]

        return self.mutate(act, body=body, to=self.back(), done=lambda results: self.keep(verb, results))

    def subject_type(self, verb: Verb) -> str:
        return "instance"

    def comes_back(self, verb: Verb) -> str:
        return "From the trash." if verb.name == "delete" and trash.is_used() else ""


def _told(result: bulk.Result) -> Result:
    return Result(
        name=result.instance.name if result.instance else result.reference,
        id=str(result.instance.pk) if result.instance else "",
        operation=str(result.operation.pk) if result.operation else "",
        refusal=result.problem.detail if result.problem else "",
    )
