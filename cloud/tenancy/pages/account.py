"""Signing in and out, the theme, and one's own account: profile, tokens and the password."""

from datetime import timedelta
from typing import Any

from allauth.account.stages import LoginStageController
from allauth.account.utils import perform_login
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout, update_session_auth_hash
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render, resolve_url
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from cloud import transactions
from cloud.api.addresses import address
from cloud.pages import forms
from cloud.pages.base import THEMES, FormPage, SeeOther, theme_of
from cloud.pages.generic import VerbPage
from cloud.problems import Problem
from cloud.tenancy import accounts, second_factor, sessions, sign_ins
from cloud.tenancy.api.tokens import TokenForm
from cloud.tenancy.api.users import MeChanges
from cloud.tenancy.models import BrowserSession, Token, User
from cloud.tenancy.pages import single_sign_on
from cloud.tenancy.pages.sign_in import SecondFactorStage

YEAR = 365 * 24 * 3600
LIFETIMES = {"7": "a week", "30": "a month", "90": "90 days", "365": "a year"}


def safe_next(request: HttpRequest) -> str:
    """Where to go afterwards: a path of this cloud, whatever the request says."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    if url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure()):
        return wanted
    return resolve_url(settings.LOGIN_REDIRECT_URL)


@method_decorator([never_cache, sensitive_post_parameters("password")], name="dispatch")
class SignIn(View):
    """The refusal is the same whether the user exists or not; guessing is limited (`accounts.sign_in`)."""

    def get(self, request: HttpRequest) -> HttpResponse:
        if isinstance(request.user, User):
            return SeeOther(safe_next(request))
        return self.show(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        username, password = request.POST.get("username", "").strip(), request.POST.get("password", "")
        try:
            user = accounts.sign_in(username=username, password=password, address=address(request))
        except Problem as problem:
            return self.show(request, problem)
        response: HttpResponse = perform_login(request, user, redirect_url=safe_next(request))
        response.status_code = SeeOther.status_code
        return response

    def show(self, request: HttpRequest, problem: Problem | None = None) -> HttpResponse:
        context = {
            "problem": problem,
            "values": request.POST,
            "next": safe_next(request),
            "is_turned_away": "next" in request.GET,
            "theme": theme_of(request),
            "single_sign_on": settings.SINGLE_SIGN_ON if single_sign_on.is_configured() else None,
        }
        response = render(request, "tenancy/account/sign_in.html", context, status=problem.status if problem else 200)
        if problem is not None and "Retry-After" in problem.headers:
            response["Retry-After"] = problem.headers["Retry-After"]
        return response


@method_decorator(never_cache, name="dispatch")
class SecondFactor(View):
    """After the password: a code of the device, or a recovery code."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self.stage = LoginStageController.enter(request, SecondFactorStage.key)
        if self.stage is None or not self.stage.login.user.is_active:
            return SeeOther(reverse("sign-in"))
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.show(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        try:
            second_factor.check(self.stage.login.user, request.POST.get("code", "")[:40])
        except Problem as problem:
            if isinstance(problem, second_factor.WrongCode):  # of others there may be any number
                sign_ins.note_refusal(self.stage.login.user.username, address=address(request), gave="a wrong code")
            return self.show(request, problem)
        response: HttpResponse = self.stage.exit()
        response.status_code = SeeOther.status_code
        return response

    def show(self, request: HttpRequest, problem: Problem | None = None) -> HttpResponse:
        context = {"problem": problem, "theme": theme_of(request)}
        status = problem.status if problem else 200
        return render(request, "tenancy/account/sign_in_code.html", context, status=status)


class SignOut(View):
    http_method_names = ("post",)

    def post(self, request: HttpRequest) -> HttpResponse:
        user = request.user
        with transaction.atomic():  # the event ends what is open with the session, which has to be gone by then
            logout(request)
            if isinstance(user, User):
                request_id = getattr(request, "request_id", "")
                sign_ins.note_sign_out(user, address=address(request), request_id=request_id)
        return SeeOther(reverse("sign-in"))


class Theme(View):
    """Light, dark, or as the system has it: kept in a cookie, so that a page comes in the right one at once."""

    http_method_names = ("post",)

    def post(self, request: HttpRequest) -> HttpResponse:
        response = SeeOther(safe_next(request))
        theme = request.POST.get("theme", "")
        if theme in THEMES:
            response.set_cookie("theme", theme, max_age=YEAR, samesite="Lax", secure=request.is_secure())
        return response


class Tokens(FormPage):
    """One's API tokens, and the form for a new one."""

    template = "tenancy/account/tokens.html"
    section = "tokens"
    help = "projects#api-tokens"

    def fill(self) -> dict[str, Any]:
        own = Token.objects.filter(user=self.scope.user).select_related("project").order_by("-created_at")
        return {
            "tokens": list(own),
            "lives": list(LIFETIMES.items()),
            "projects": list(self.scope.projects().order_by("name")[:500]),
        }

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        body: dict[str, Any] = {**forms.required(post, "name"), **forms.texts(post, "project")}
        if "read_only" in post:
            body["read_only"] = True
        days = post.get("days", "")
        if days in LIFETIMES:
            # A whole day, so that the same form sent twice says the same.
            end = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=int(days) + 1)
            body["expires_at"] = end.isoformat()
        return body

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        scope = self.scope
        return self.mutate(
            lambda: accounts.create_token(user=scope.user, actor=scope.actor, **self.validate(TokenForm, body)),
            body=body,
            to=reverse("tokens"),
            secret=self.show_secret,
        )

    def show_secret(self, made: tuple[Token, str]) -> HttpResponse:
        token, secret = made
        return self.show({**self.fill(), "made": token, "secret": secret, "values": {}})


class RevokeToken(VerbPage):
    model, key, listed_at = Token, "token", "tokens"

    def rows(self) -> "QuerySet[Token]":
        return Token.objects.select_related("user").filter(user=self.scope.user)

    def act(self) -> None:
        accounts.revoke_token(token=self.item, actor=self.scope.actor)

    def done(self, result: None) -> str:
        return f"{self.item.name} opens nothing any more."


class Profile(FormPage):
    """What is known of oneself."""

    template = "tenancy/account/profile.html"
    section = "profile"
    help = "projects#your-account"

    def initial(self) -> dict[str, Any]:
        return {name: getattr(self.scope.user, name) for name in ("full_name", "email")}

    def read(self) -> dict[str, Any]:
        return forms.required(self.request.POST, "full_name", "email")

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        return self.mutate(
            lambda: accounts.update_me(
                user=self.scope.user, actor=self.scope.actor, changes=self.validate(MeChanges, body, partial=True)
            ),
            body=body,
            to=reverse("profile"),
            done="Changed.",
            undo=(reverse("profile"), self.initial()),
        )


@method_decorator(sensitive_post_parameters(), name="dispatch")
class Password(FormPage):
    """One's own password; a new one ends all other sessions."""

    template = "tenancy/account/password.html"
    section = "password"
    help = "projects#your-account"

    def read(self) -> dict[str, Any]:
        return {name: self.request.POST.get(name, "") for name in ("current_password", "password")}

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        user = transactions.run(
            lambda: accounts.update_me(
                user=self.scope.user,
                actor=self.scope.actor,
                changes={"password": body["password"]},
                current_password=body["current_password"],
            )
        )
        update_session_auth_hash(self.request, user)
        others = BrowserSession.objects.exclude(session_key=self.request.session.session_key)
        transactions.run(lambda: sessions.end(sessions=others, user=user, actor=self.scope.actor))
        messages.success(self.request, "Your password is changed. Other sessions of yours have ended.")
        return SeeOther(reverse("password"))

    def initial(self) -> dict[str, Any]:
        return {}
