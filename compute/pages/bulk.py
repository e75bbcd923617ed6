"""Verbs for the instances that are selected in the list."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from django.http import HttpResponse

from cloud import trash
from cloud.api.fields import as_uuid
from cloud.pages import forms
from cloud.pages.bulk import Result, SelectedPage
from cloud.tenancy.models import Project, Role
from compute import bulk
from compute.api.bulk import MAX_INSTANCES, ActionForm
from compute.models import Instance
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
        parts = self.by_project(found)
        return {
            "dialog": dialog_of(f"{verb.name}_many"),
            "says": verb.says_for_many,
            **offers.of(verb.name, parts[0][0]),
            "picked": [(one, actions_for(one, role=self.scope.role)[verb.name].why_not) for one in found],
            "disk_gib": sum(instance.disk_gib for instance in found),
            "vcpus": sum(instance.vcpus for instance in found),
            "memory_mib": sum(instance.memory_mib for instance in found),
            "curl": "\n\n".join(_call(verb, project, own) for project, own in parts),
        }

    def by_project(self, found: Iterable[Instance]) -> list[tuple[Project, list[Instance]]]:
        return [(self.project, list(found))]

    def read(self) -> dict[str, Any]:
        post, verb = self.request.POST, self.request.POST.get("verb", "")
        how = forms.body(post, VERBS[verb].for_many) if verb in VERBS else {}
        return {"verb": verb, "instances": post.getlist("item"), **how}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        verb = self.verb()

        def act() -> list[Result]:
            asked = self.validate(ActionForm, body)
            return self.act_on(asked.pop("instances"), **asked)

        return self.mutate(act, body=body, to=self.back(), done=lambda results: self.keep(verb, results))

    def act_on(self, references: list[str], **asked: Any) -> list[Result]:
        found = bulk.act(project=self.project, actor=self.scope.actor, references=references, **asked)
        return [_told(result) for result in found]

    def subject_type(self, verb: Verb) -> str:
        return "instance"

    def comes_back(self, verb: Verb) -> str:
        return "From the trash." if verb.name == "delete" and trash.is_used() else ""


class SelectedOfAll(Selected):
    """Those of several projects, one project after the other."""

    noun = "instances"

    def by_project(self, found: Iterable[Instance]) -> list[tuple[Project, list[Instance]]]:
        """In the order of the projects' ids: two such requests never wait for each other in a circle."""
        parts: dict[Project, list[Instance]] = {}
        for instance in found:
            parts.setdefault(instance.project, []).append(instance)
        return sorted(parts.items(), key=lambda part: part[0].pk)

    def act_on(self, references: list[str], **asked: Any) -> list[Result]:
        ids = [ident for reference in references if (ident := as_uuid(reference))]
        found = Instance.objects.filter(pk__in=ids, trashed_at=None).select_related("project")
        told = []
        for project, own in self.by_project(found):
            of_it = [str(instance.pk) for instance in own]
            results = bulk.act(project=project, actor=self.scope.actor, references=of_it, **asked)
            told += [replace(_told(result), name=f"{result.instance} in {project}") for result in results]
        return told

    def comes_back(self, verb: Verb) -> str:
        return ""  # the trash is one of each project


def _call(verb: Verb, project: Project, instances: Iterable[Instance]) -> str:
    """What does it by the API."""
    names = [instance.name for instance in instances]
    sent = {"verb": verb.name, "instances": names, **({"suffix": "copy"} if verb.makes_instances else {})}
    return forms.as_curl("POST", f"projects/{project.name}/instance-actions", sent)


def _told(result: bulk.Result) -> Result:
    return Result(
        name=result.instance.name if result.instance else result.reference,
        id=str(result.instance.pk) if result.instance else "",
        operation=str(result.operation.pk) if result.operation else "",
        refusal=result.problem.detail if result.problem else "",
    )
