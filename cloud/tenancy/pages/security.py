"""One's own security: the second factor with its recovery codes, and where one is signed in."""

import base64
from typing import Any

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from cloud import transactions
from cloud.events import reading
from cloud.pages.base import FormPage, Page, SeeOther
from cloud.pages.rows import find
from cloud.problems import NotFound
from cloud.tenancy import accounts, second_factor, sessions
from cloud.tenancy.models import BrowserSession
from cloud.tenancy.pages import single_sign_on

NEW_SECRET = "new_second_factor"  # in the session, encrypted, until a code of it was given  # noqa: S105


class Security(FormPage):
    template = "tenancy/account/security.html"
    section = "security"
    help = "projects#your-account"

    def fill(self) -> dict[str, Any]:
        user = self.scope.user
        return {
            "is_on": second_factor.is_on(user),
            "codes_left": second_factor.codes_left(user),
            "sessions": list(sessions.of(user)[:100]),
            "lately": list(reading.log(subject=("user", user.pk)).order_by("-transaction", "-id")[:10]),
            "here": self.request.session.session_key,
            "single_sign_on": settings.SINGLE_SIGN_ON if single_sign_on.is_configured() else None,
            "connected": list(SocialAccount.objects.filter(user=user).order_by("pk")),
        }

    def read(self) -> dict[str, Any]:
        return {name: self.request.POST.get(name, "") for name in ("verb", "current_password")}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        scope = self.scope
        accounts.confirm_password(scope.user, body["current_password"])
        if body["verb"] == "renew-codes":
            codes = transactions.run(lambda: second_factor.renew_codes(user=scope.user, actor=scope.actor))
            return self.show({**self.fill(), "codes": codes})
        transactions.run(lambda: second_factor.switch_off(user=scope.user, actor=scope.actor))
        messages.success(self.request, "The second factor is off.")
        return SeeOther(reverse("security"))


@method_decorator(sensitive_post_parameters(), name="dispatch")
class NewSecondFactor(FormPage):
    """A device is made known: its secret is shown, and works once the device has given a code."""

    template = "tenancy/account/second_factor.html"
    section = "security"
    help = "projects#your-account"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if second_factor.is_on(self.scope.user):
            return SeeOther(reverse("security"))
        request.session[NEW_SECRET] = second_factor.make_secret()
        return super().get(request, *args, **kwargs)

    def fill(self) -> dict[str, Any]:
        kept = self.request.session.get(NEW_SECRET)
        if kept is None:
            raise NotFound("Begin again: this page was open for too long.")
        adapter = second_factor.MFAAdapter()
        secret = adapter.decrypt(kept)
        picture = adapter.build_totp_svg(adapter.build_totp_url(self.scope.user, secret))
        return {
            "secret": " ".join(secret[start : start + 4] for start in range(0, len(secret), 4)),
            "picture": "data:image/svg+xml;base64," + base64.b64encode(picture.encode()).decode(),
        }

    def initial(self) -> dict[str, Any]:
        return {}

    def read(self) -> dict[str, Any]:
        return {name: self.request.POST.get(name, "") for name in ("code", "current_password")}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        scope, session = self.scope, self.request.session
        if NEW_SECRET not in session:
            raise NotFound("Begin again: this page was open for too long.")
        accounts.confirm_password(scope.user, body["current_password"])
        codes = transactions.run(
            lambda: second_factor.switch_on(
                user=scope.user, actor=scope.actor, secret=session[NEW_SECRET], code=body["code"]
            )
        )
        scope.user.refresh_from_db()
        update_session_auth_hash(self.request, scope.user)  # rotated, and the one that stays
        del session[NEW_SECRET]
        return self.show({"codes": codes, "just_on": True})


class EndSession(Page):
    """Signs out in one other browser, or in all others."""

    def post(self, request: HttpRequest, ident: str = "") -> HttpResponse:
        chosen = BrowserSession.objects.exclude(session_key=request.session.session_key)
        if ident:
            find(chosen.filter(user=self.scope.user), ident)
            chosen = chosen.filter(pk=ident)
        return self.mutate(
            lambda: sessions.end(sessions=chosen, user=self.scope.user, actor=self.scope.actor),
            body={"session": str(ident)},
            to=reverse("security"),
            done=lambda count: f"Signed out in {count} other browser{'' if count == 1 else 's'}.",
        )
