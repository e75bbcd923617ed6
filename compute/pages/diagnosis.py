"""Why an instance cannot be reached, on the dashboard: the way of a first packet, and what opens it."""

import contextlib
import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import ValidationError

from cloud.api.translate import problem_of
from cloud.pages import forms
from cloud.pages.generic import ItemFormPage
from cloud.problems import Conflict, Problem
from compute.api.diagnosis import INTERNET, DiagnoseForm
from compute.diagnosis import Diagnosis, diagnose, look_closer
from compute.pages.instances import InstanceItemPage
from network.doctor.hops import ASKABLE, Fix

SSH = 22  # what is asked about first


class Diagnose(InstanceItemPage, ItemFormPage):
    """Asked by the query string. A form that is sent applies the fix that was shown, if it still is the one."""

    template = "compute/instances/diagnosis.html"
    help = "networks#when-something-does-not-work"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return self.show({**self.fill(), "values": self.question(), **self.answer()})
        except Exception as error:
            problem = problem_of(error)
            shown = {**self.fill(), "values": self.question(), "problem": problem}
            return self.show(shown, status=problem.status)

    def fill(self) -> dict[str, Any]:
        protocols = [(name, "ping" if name == "icmp" else name.upper()) for name in ASKABLE]
        frame = {"title": f"Why can I not connect to {self.item.name}?", "after": self.after()}
        return {**super().fill(), **frame, "protocols": protocols}

    def question(self) -> dict[str, str]:
        """What is asked; SSH from the internet where nothing is said."""
        given = self.request.GET
        protocol = given.get("protocol", ASKABLE[0])
        port = given.get("port", "" if protocol == "icmp" else str(SSH))
        return {"from": given.get("from", INTERNET), "protocol": protocol, "port": port}

    def ask(self) -> Diagnosis:
        """Walk the way of the question. Raises Invalid for one that the API would not take either."""
        asked = self.question()
        body: dict[str, Any] = {"protocol": asked["protocol"], "from": asked["from"].strip()}
        if body["from"] != INTERNET and not _is_address(body["from"]):
            body["from"] = {"instance": body["from"]}
        if asked["port"].strip() and asked["protocol"] != "icmp":
            body |= forms.whole(asked, "port")
        return diagnose(instance=self.item, **self.validate(DiagnoseForm, body))

    def answer(self) -> dict[str, Any]:
        found = look_closer(self.ask())
        return {"found": found, "call": _call(found.fix) if found.fix else ""}

    def read(self) -> dict[str, Any]:
        return forms.required(self.request.POST, "call")

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        def work() -> Fix:
            fix = self.ask().fix
            if fix is None or _call(fix) != body["call"]:
                raise Conflict("Something has changed meanwhile. Look at the answer again before you apply it.")
            fix.do(self.scope.actor)
            return fix

        return self.mutate(work, body=body, to=self.request.get_full_path(), done=lambda fix: f"Done: {fix.says}")

    def show_fault(self, problem: Problem) -> HttpResponse:
        shown = {**self.fill(), "values": self.question(), "problem": problem}
        with contextlib.suppress(Problem, ValidationError):
            shown |= self.answer()
        return self.show(shown, status=problem.status)


def _is_address(text: str) -> bool:
    """Whether it is meant as an address: names of instances have no colons and are not only digits with dots."""
    return ":" in text or text.replace(".", "").isdecimal()


def _call(fix: Fix) -> str:
    """The call of the API that a fix is, as it is shown and compared."""
    return f"{fix.method} {fix.path} {json.dumps(fix.body, sort_keys=True)}"
