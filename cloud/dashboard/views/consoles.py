"""An instance's consoles: the serial port and the screen as they are now, and the log of what was said."""

from typing import Any

from django.http import HttpRequest, HttpResponse

from cloud.dashboard.views.instances import InstancePage, console_log
from cloud.tenancy.models import Role
from compute import console_logs, consoles

LINES_KEPT = 5000


class Console(InstancePage):
    """A terminal at the serial port, or the screen. The page asks the API for a URL, and connects by itself."""

    template = "dashboard/instances/console.html"

    def get(self, request: HttpRequest, project: str, instance: str) -> HttpResponse:
        kind = request.GET.get("kind", "")
        context: dict[str, Any] = {
            "instance": self.instance,
            "actions": self.actions().values(),
            "kind": kind if kind in consoles.KINDS else consoles.KINDS[0],
            "may_type": self.may(Role.MEMBER),
            "has_screen": consoles.has_screen(self.instance),
        }
        return self.show(context)


class ConsoleLog(InstancePage):
    """The end of the log as a page, or all of it that is still kept, as a file."""

    template = "dashboard/instances/log.html"
    partials = {"console-log": "dashboard/instances/_log.html"}

    def get(self, request: HttpRequest, project: str, instance: str) -> HttpResponse:
        if "download" in request.GET:
            lines, truncated = console_logs.whole(self.instance)
            text = "\n".join((["… there was more before this"] if truncated else []) + lines) + "\n"
            response = HttpResponse(text, content_type="text/plain; charset=utf-8")
            response["Content-Disposition"] = f'attachment; filename="{self.instance.name}-console.log"'
            return response
        context = {
            "instance": self.instance,
            "actions": self.actions().values(),
            "kind": "log",
            "has_screen": consoles.has_screen(self.instance),
        }
        return self.show({**context, **console_log(self.instance, LINES_KEPT)})
