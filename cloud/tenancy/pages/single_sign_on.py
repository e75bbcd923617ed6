"""Single sign-on: the operator's OpenID Connect provider says who somebody is. django-allauth speaks with it.

An identity opens the account that it was connected to: by its user, while signed in, or because the operator lets the
provider make users. Accounts are never found by a name or an address that the provider tells: those can be chosen.
"""

import re
from typing import Any
from urllib.parse import urlsplit

from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp
from django.conf import settings
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud import problems, transactions
from cloud.api.translate import problem_of
from cloud.events.services import Actor, record
from cloud.pages import refusals
from cloud.problems import Problem
from cloud.tenancy import accounts
from cloud.tenancy.models import USERNAME_PATTERN, User

PROVIDER = "company"


class NotKnown(problems.Forbidden):
    """The provider knows who it is; this cloud does not."""

    title = "This cloud does not know you yet"


class NameTaken(problems.Conflict):
    """Somebody else here has the name that the provider tells."""

    title = "Your name is somebody else's here"
    fix_by = "operator"


class NoAnswer(problems.Unavailable):
    """The provider is away, or refuses."""

    title = "Single sign-on did not work"


def is_configured() -> bool:
    return bool(settings.SINGLE_SIGN_ON["url"] and settings.SINGLE_SIGN_ON["client_id"])


class Adapter(DefaultSocialAccountAdapter):
    """The one provider, out of the settings; and who may come in through it."""

    def list_apps(self, request: HttpRequest, provider: Any = None, client_id: Any = None) -> list[SocialApp]:
        given = settings.SINGLE_SIGN_ON
        if not is_configured():
            return []
        return [
            SocialApp(
                provider="openid_connect",
                provider_id=PROVIDER,
                name=given["name"],
                client_id=given["client_id"],
                secret=given["secret"],
                settings={"server_url": given["url"], "oauth_pkce_enabled": True},
            )
        ]

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        if sociallogin.state.get("process") == "connect" and isinstance(request.user, User):
            if sociallogin.is_existing and sociallogin.user.pk != request.user.pk:
                raise refuse(request, NotKnown("This identity signs somebody else in already."))
            record("tenancy.user.connect_single_sign_on", request.user, actor=_actor(request.user, request))
        elif not sociallogin.is_existing:
            self.let_in(request, sociallogin)

    def let_in(self, request: HttpRequest, sociallogin: Any) -> None:
        """Make a user of somebody new, where the operator wants that."""
        if not settings.SINGLE_SIGN_ON["makes_users"]:
            raise refuse(request, NotKnown("Sign in by your password, and connect it under Account → Security."))
        told = sociallogin.account.extra_data.get("userinfo") or sociallogin.account.extra_data.get("id_token") or {}
        name = str(told.get("preferred_username") or "").partition("@")[0].lower()
        if not re.fullmatch(USERNAME_PATTERN, name):
            raise refuse(request, NotKnown("The provider told no name that can be a user name here. Ask an admin."))
        full_name = str(told.get("name") or "")[:120]

        def make() -> User:
            actor = Actor(f"single sign-on {name}"[:80], request_id=getattr(request, "request_id", ""))
            user, _ = accounts.create_user(actor=actor, username=name, full_name=full_name)
            user.set_unusable_password()
            user.save(update_fields=["password"])
            sociallogin.connect(request, user)
            return user

        try:
            transactions.run(make)
        except IntegrityError:
            words = f"The provider calls you {name}, and that name is somebody else's here. Ask an admin."
            raise refuse(request, NameTaken(words)) from None
        except Exception as error:
            raise refuse(request, problem_of(error)) from error

    def on_authentication_error(self, request: HttpRequest, provider: Any, **facts: Any) -> None:
        raise refuse(request, NoAnswer("The provider refused, or the way back took too long. Try again."))

    def get_connect_redirect_url(self, request: HttpRequest, socialaccount: Any) -> str:
        return reverse("security")

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        return False


def refuse(request: HttpRequest, problem: Problem) -> ImmediateHttpResponse:
    response: HttpResponse = refusals.refusal(request, problem)
    return ImmediateHttpResponse(response)


def _actor(user: User, request: HttpRequest) -> Actor:
    return Actor(user.username, user_id=user.pk, request_id=getattr(request, "request_id", ""))


def is_elsewhere(url: str) -> bool:
    """Whether a redirect leads to the provider, and not back into the dashboard."""
    return bool(urlsplit(url).netloc)
