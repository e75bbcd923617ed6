"""To the provider and back; and forgetting it. What it knows of the protocol is allauth's, loaded when it is used."""

import logging
from typing import Any

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from cloud.api import limits
from cloud.api.addresses import address, counted_as
from cloud.events.services import record
from cloud.pages import refusals
from cloud.pages.base import Page, SeeOther, theme_of
from cloud.pages.rows import find
from cloud.problems import Conflict, NotFound
from cloud.tenancy.pages import single_sign_on

log = logging.getLogger(__name__)


def speak(request: HttpRequest, *, back: bool) -> HttpResponse:
    """One half of the protocol: there, or back."""
    from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
    from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
    from requests import RequestException

    # Each begins a session, and asks the provider.
    verdict = limits.take(f"single-sign-on:{counted_as(address(request))}", rate=0.5, burst=30)
    if not verdict.allowed:
        return refusals.refusal(request, verdict.refusal())
    half = OAuth2CallbackView if back else OAuth2LoginView
    try:
        view = half.adapter_view(OpenIDConnectOAuth2Adapter(request, single_sign_on.PROVIDER))
        answer: HttpResponse = view(request)
    except (RequestException, KeyError, ValueError) as error:
        log.warning("single_sign_on.no_answer %s: %r", settings.SINGLE_SIGN_ON["url"], error)
        return refusals.refusal(request, single_sign_on.NoAnswer("The provider does not answer as it should."))
    return answer


@method_decorator(never_cache, name="dispatch")
class Begin(View):
    """Leaves by a page of ours: the policy lets no form lead elsewhere."""

    http_method_names = ("post",)

    def post(self, request: HttpRequest) -> HttpResponse:
        if not single_sign_on.is_configured():
            return refusals.refusal(request, NotFound("There is no single sign-on here."))
        answer = speak(request, back=False)
        url = answer.headers.get("Location", "")
        if not single_sign_on.is_elsewhere(url):
            return answer
        context = {"url": url, "name": settings.SINGLE_SIGN_ON["name"], "theme": theme_of(request)}
        return render(request, "tenancy/account/leave.html", context)


@method_decorator(never_cache, name="dispatch")
class Callback(View):
    """The provider sends the browser here, with a code that is exchanged for who it is."""

    def get(self, request: HttpRequest, provider_id: str) -> HttpResponse:
        if provider_id != single_sign_on.PROVIDER or not single_sign_on.is_configured():
            return refusals.refusal(request, NotFound())
        answer = speak(request, back=True)
        if answer.status_code == 302:
            answer.status_code = SeeOther.status_code
        return answer


class Forget(Page):
    """From now on the password alone signs in."""

    def post(self, request: HttpRequest, ident: int) -> HttpResponse:
        user = self.scope.user

        def forget() -> Any:
            if not user.has_usable_password():
                raise Conflict("You have no password: without it nothing would sign you in.")
            find(SocialAccount.objects.filter(user=user), ident).delete()
            record("tenancy.user.forget_single_sign_on", user, actor=self.scope.actor)

        return self.mutate(forget, to=reverse("security"), done="It is disconnected.")
