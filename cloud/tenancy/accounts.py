"""What may be done with users, and by them with their own account: passwords, tokens, signing in."""

import contextlib
import ipaddress
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib.auth import authenticate, password_validation
from django.core.exceptions import ValidationError
from django.db.models.functions import Now
from django.utils import timezone

from cloud.api import limits
from cloud.api.addresses import counted_as
from cloud.api.authentication import digest
from cloud.events.services import GUEST, SYSTEM, Actor, record
from cloud.problems import Conflict, Fault, Forbidden, Invalid, Unauthenticated, explain_constraint
from cloud.tenancy import sign_ins
from cloud.tenancy.models import Membership, Project, Role, Token, User

TOKEN_PREFIX = "pileus-"  # noqa: S105
TOKEN_LIFE = timedelta(days=90)
OWNERS_ADDRESS_SECONDS = 90 * 24 * 3600  # for so long an address that knew the password is its owner's
MAX_TOKENS = 200  # of one user
MAX_TOKEN_LIFE = timedelta(days=3660)

explain_constraint("tenancy_user_username_key", "This user name is taken. Choose another one.", pointer="/username")
explain_constraint("token_name_is_unique_per_user", "You have a token of this name already.", pointer="/name")


# Who else does things in the event log: a user of such a name would look like the cloud itself, or like an address.
RESERVED_NAMES = frozenset({SYSTEM.name, GUEST.name, "host", "nobody"})


def is_reserved(username: str) -> bool:
    """Whether the event log uses this name for somebody who is no user."""
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(username))
    return username in RESERVED_NAMES


class WrongCredentials(Unauthenticated):
    """The user name or the password is wrong; which one is not said."""

    title: ClassVar[str] = "User name or password is wrong"


class LastAdmin(Conflict):
    """Without this admin, nobody could look after what remains."""

    title: ClassVar[str] = "The last admin stays"


def sign_in(*, username: str, password: str, address: str) -> User:
    """The user whose password this is; guessing is bounded. Raises WrongCredentials, RateLimited.

    All strangers share the tries at one account. Who has known its password is counted by address, so that strangers
    do not keep the owner out.
    """
    here = counted_as(address)
    account, owner = digest(username), f"{digest(username)}:{here}"
    for bucket, rate, burst in (
        (f"sign-in:{here}", 0.2, 20),
        (f"sign-in-as:{owner if limits.is_trusted(owner) else account}", 0.1, 30),
    ):
        verdict = limits.take(bucket, rate=rate, burst=burst)
        if not verdict.allowed:
            sign_ins.note_too_many(username, address=address)
            raise verdict.refusal()
    user = authenticate(username=username, password=password) if "\x00" not in username + password else None
    if not isinstance(user, User):
        sign_ins.note_refusal(username, address=address, gave="a wrong password")
        raise WrongCredentials("Try again. Your admin can set a new password.")
    limits.trust(owner, seconds=OWNERS_ADDRESS_SECONDS)
    return user


def create_user(
    *,
    actor: Actor,
    username: str,
    password: str | None = None,
    email: str = "",
    full_name: str = "",
    is_cloud_admin: bool = False,
) -> tuple[User, str | None]:
    """A new user. Without a password one is made up and returned. Raises Invalid for a weak password."""
    if is_reserved(username):
        message = "The cloud itself goes by this name. Choose another one."
        raise Invalid(message, errors=[Fault("/username", message)])
    user = User(username=username, email=email, full_name=full_name, is_cloud_admin=is_cloud_admin)
    made_up = None if password is not None else secrets.token_urlsafe(15)
    _set_password(user, password if password is not None else made_up or "")
    user.save(force_insert=True)
    user.refresh_from_db()
    record("tenancy.user.create", user, actor=actor, after={"username": username, "is_cloud_admin": is_cloud_admin})
    return user, made_up


def update_user(*, user: User, actor: Actor, changes: Mapping[str, Any]) -> User:
    """Change a user as an admin: email, full_name, password, is_active, is_cloud_admin.

    Deactivating, and a new password, delete the user's tokens and end the sessions. Raises LastAdmin, Invalid.
    """
    user = User.objects.select_for_update().get(pk=user.pk)
    steps_down = changes.get("is_active") is False or changes.get("is_cloud_admin") is False
    if steps_down and user.is_cloud_admin and user.is_active:
        _require_other_cloud_admin(user)
    if changes.get("is_active") is False:
        _require_no_orphans(user)
        Token.objects.filter(user=user).delete()
        user.session_version += 1
    return _update(user, actor, changes)


def update_me(
    *,
    user: User,
    actor: Actor,
    changes: Mapping[str, Any],
    current_password: str | None = None,
    by_token: bool = False,
) -> User:
    """Change one's own account: email, full_name; the password only with the present one.

    A new password ends all other sessions and all API tokens. Raises Forbidden when a token would give a password to
    an account that has none: it would outlive the token, and get round the single sign-on.
    """
    user = User.objects.select_for_update().get(pk=user.pk)
    if "password" in changes:
        if by_token and not user.has_usable_password():
            raise Forbidden("This account has no password, and a token gives it none. Sign in, and set one there.")
        confirm_password(user, current_password)
    return _update(user, actor, changes)


def confirm_password(user: User, password: str | None) -> None:
    """Make sure that it is really the user who sits there. Raises Invalid, RateLimited."""
    bucket = limits.take(f"own-password:{user.pk}", rate=0.2, burst=10)
    if not bucket.allowed:
        raise bucket.refusal()
    if user.has_usable_password() and (password is None or not user.check_password(password)):
        message = "This is not your present password."
        raise Invalid(message, errors=[Fault("/current_password", message)])


def _update(user: User, actor: Actor, changes: Mapping[str, Any]) -> User:
    before = {field: getattr(user, field) for field in changes if field != "password"}
    for field, value in changes.items():
        if field == "password":
            _set_password(user, value)
            Token.objects.filter(user=user).delete()
        else:
            setattr(user, field, value)
    user.save()
    after = {field: "changed" if field == "password" else value for field, value in changes.items()}
    record("tenancy.user.update", user, actor=actor, before=before, after=after)
    return user


def delete_user(*, user: User, actor: Actor) -> None:
    """Remove a user with tokens and memberships. What the user made stays with its project. Raises LastAdmin."""
    user = User.objects.select_for_update().get(pk=user.pk)
    if user.is_cloud_admin and user.is_active:
        _require_other_cloud_admin(user)
    _require_no_orphans(user)
    record("tenancy.user.delete", user, actor=actor, before={"username": user.username})
    user.delete()


def _set_password(user: User, password: str) -> None:
    try:
        password_validation.validate_password(password, user)
    except ValidationError as weak:
        faults = [Fault("/password", message, "weak_password") for message in weak.messages]
        raise Invalid(" ".join(weak.messages), errors=faults) from None
    user.set_password(password)


def _require_other_cloud_admin(user: User) -> None:
    admins = User.objects.select_for_update().filter(is_cloud_admin=True, is_active=True).order_by("pk")
    if not [admin for admin in admins if admin.pk != user.pk]:
        raise LastAdmin(f"{user} is the only active admin of the cloud. Make another one first.")


def _require_no_orphans(user: User) -> None:
    """Projects whose only admin this is keep him: their other members could not look after them."""
    own = Membership.objects.filter(user=user, role=Role.ADMIN).values("project")
    projects = list(Project.objects.select_for_update().filter(pk__in=own).order_by("pk"))
    others = set(
        Membership.objects.filter(project__in=projects, role=Role.ADMIN, user__is_active=True)
        .exclude(user=user)
        .values_list("project_id", flat=True)
    )
    shared = set(
        Membership.objects.filter(project__in=projects).exclude(user=user).values_list("project_id", flat=True)
    )
    if orphans := sorted(project.name for project in projects if project.pk in shared - others):
        raise LastAdmin(f"{user} is the only admin of {', '.join(orphans)}. Give somebody else that role first.")


def create_token(
    *,
    user: User,
    actor: Actor,
    name: str,
    project: Project | None = None,
    read_only: bool = False,
    expires_at: datetime | None = None,
    made_with: Token | None = None,
) -> tuple[Token, str]:
    """A new API token and its secret, which is kept nowhere. A token makes none that may do more than itself."""
    if made_with is not None:
        latest = made_with.expires_at
        if expires_at is not None and expires_at > latest:
            message = f"Your token ends at {latest:%Y-%m-%d %H:%M} UTC; it makes none that lives longer."
            raise Invalid(message, errors=[Fault("/expires_at", message)])
        expires_at = expires_at or min(latest, timezone.now() + TOKEN_LIFE)
    if made_with is not None and made_with.project_id and (project is None or project.pk != made_with.project_id):
        raise Forbidden("Your token is for one project; it makes only tokens for the same project.")
    User.objects.select_for_update().get(pk=user.pk)  # one at a time, so that nobody gets more
    if Token.objects.filter(user=user).count() >= MAX_TOKENS:
        raise Conflict(f"{user} has {MAX_TOKENS} tokens. Revoke those that are not used any more.")
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = Token.objects.create(
        user=user,
        name=name,
        digest=digest(secret),
        project=project,
        read_only=read_only,
        expires_at=expires_at or Now() + TOKEN_LIFE,
    )
    token = Token.objects.select_related("project").annotate(now=Now()).get(pk=token.pk)
    if not token.now < token.expires_at <= token.now + MAX_TOKEN_LIFE:
        message = "It must end in the future, within ten years."
        raise Invalid(message, errors=[Fault("/expires_at", message)])
    after = {"name": name, "user": user.username, "read_only": read_only, "expires_at": token.expires_at}
    record("tenancy.token.create", token, actor=actor, after=after)
    return token, secret


def revoke_token(*, token: Token, actor: Actor) -> None:
    """From now on it opens nothing."""
    before = {"name": token.name, "user": token.user.username}
    record("tenancy.token.delete", token, actor=actor, before=before)
    token.delete()
