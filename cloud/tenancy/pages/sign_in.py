"""The way in: a password or the company's sign-in, then the second factor where there is one, then a session.

django-allauth walks this way. Here is what it asks about the cloud: where the steps are, and who may come in.
"""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.stages import LoginStage
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from cloud.api.addresses import address
from cloud.tenancy import second_factor, sign_ins


class AccountAdapter(DefaultAccountAdapter):
    """No mail is sent and nobody signs up by themselves: admins make the accounts."""

    def get_login_stages(self) -> list[str]:
        return ["cloud.tenancy.pages.sign_in.SecondFactorStage"]

    def get_client_ip(self, request: HttpRequest) -> str:
        return address(request)

    def login(self, request: HttpRequest, user: Any) -> None:
        super().login(request, user)
        sign_ins.note(user, address=address(request), request_id=getattr(request, "request_id", ""))

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def respond_user_inactive(self, request: HttpRequest, user: Any) -> HttpResponse:
        return HttpResponseRedirect(reverse("sign-in"))

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """The page that opens says enough."""

    def send_mail(self, *args: Any, **kwargs: Any) -> None:
        """This cloud sends none."""


class SecondFactorStage(LoginStage):
    """Between the password and the session, for those who have switched it on."""

    key = "second_factor"
    urlname = "second-factor"

    def handle(self) -> tuple[HttpResponse | None, bool]:
        if second_factor.is_on(self.login.user):  # type: ignore[arg-type]
            return HttpResponseRedirect(reverse(self.urlname)), True
        return None, True
