"""An instance's consoles: the serial port and the screen as they are now, and the log of what was said."""

from typing import Any

from django.http import HttpRequest, HttpResponse

from cloud.tenancy.models import Role
from compute import console_logs, consoles, reaching
from compute.pages.instances import InstanceItemPage, console_log

LINES_KEPT = 5000


class Console(InstanceItemPage):
    """A terminal at the serial port, or the screen. The page asks the API for a URL, and connects by itself."""

    template = "compute/instances/console.html"
    help = "instances#console"
    partials = {"instance-head": "compute/instances/_head.html"}

    def fill(self) -> dict[str, Any]:
        kind = self.request.GET.get("kind", "")
        return {
            **super().fill(),
            "actions": self.actions().values(),
            "kind": kind if kind in consoles.KINDS else consoles.KINDS[0],
            "may_type": self.may(Role.MEMBER),
            "way": reaching.ssh_way(self.item, reaching.plugged(self.item)),
            "why_no_screen": consoles.why_no_screen(self.item),
        }


class ConsoleLog(InstanceItemPage):
    """The end of the log as a page, or all of it that is still kept, as a file."""

    template = "compute/instances/log.html"
    help = "instances#console"
    partials = {"instance-head": "compute/instances/_head.html", "console-log": "compute/instances/_log.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.download() if "download" in request.GET else super().get(request, *args, **kwargs)

    def download(self) -> HttpResponse:
        lines, truncated = console_logs.whole(self.item)
        text = "\n".join((["… there was more before this"] if truncated else []) + lines) + "\n"
        response = HttpResponse(text, content_type="text/plain; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="{self.item.name}-console.log"'
        return response

    def fill(self) -> dict[str, Any]:
        return {
            **super().fill(),
            "actions": self.actions().values(),
            "kind": "log",
            "why_no_screen": consoles.why_no_screen(self.item),
            **console_log(self.item, LINES_KEPT),
        }
