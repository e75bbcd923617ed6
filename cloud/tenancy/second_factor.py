"""The second factor: codes by the clock (TOTP, RFC 6238), and recovery codes for when the device is gone.

django-allauth keeps both and knows the arithmetic. Its secrets are encrypted under a key of the cloud's own. A code
opens once: the step of the clock that it belongs to is remembered, in the database, as a cache may be emptied.
"""

import base64
import hashlib
from typing import ClassVar

from allauth.core.internal.cryptokit import compare_user_code
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import (
    TOTP,
    format_hotp_value,
    generate_totp_secret,
    hotp_value,
    yield_hotp_counters_from_time,
)
from cryptography.fernet import Fernet
from django.conf import settings
from django.db import transaction

from cloud.api import limits
from cloud.events.services import Actor, record
from cloud.problems import Conflict, Fault, Invalid, Unauthenticated
from cloud.tenancy.models import User


class WrongCode(Unauthenticated):
    """The code is wrong, or was used before."""

    title: ClassVar[str] = "This code does not open"


class MFAAdapter(DefaultMFAAdapter):
    """How allauth's second factor is kept here."""

    def encrypt(self, text: str) -> str:
        return _cipher().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return _cipher().decrypt(encrypted_text.encode()).decode()

    def get_totp_issuer(self) -> str:
        return "Pileus"

    def get_totp_label(self, user: User) -> str:  # type: ignore[override]
        return user.username


def _cipher() -> Fernet:
    key = hashlib.sha256(f"cloud.tenancy.second_factor {settings.SECRET_KEY}".encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))


def is_on(user: User) -> bool:
    return bool(Authenticator.objects.filter(user_id=user.pk, type=Authenticator.Type.TOTP).exists())


def codes_left(user: User) -> int:
    """How many recovery codes have not been used."""
    kept = Authenticator.objects.filter(user_id=user.pk, type=Authenticator.Type.RECOVERY_CODES).first()
    return len(RecoveryCodes(kept).get_unused_codes()) if kept else 0


def make_secret() -> str:
    """For a new device, encrypted: it is shown once, and works once a code of it has been given."""
    return MFAAdapter().encrypt(generate_totp_secret())


def switch_on(*, user: User, actor: Actor, secret: str, code: str) -> list[str]:
    """From now on signing in asks for a code, and all sessions are over. Raises Conflict, Invalid."""
    user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if is_on(user):
        raise Conflict("It is on already. Switch it off first, to use another device.")
    plain = MFAAdapter().decrypt(secret)
    step = _step_of(plain, code)
    if step is None:
        message = "This is not the code that the device shows. Is its clock right?"
        raise Invalid(message, errors=[Fault("/code", message)])
    kept = TOTP.activate(user, plain).instance
    kept.data["last_step"] = step
    kept.save(update_fields=["data"])
    user.session_version += 1  # sessions that the password alone began are over
    user.save(update_fields=["session_version"])
    record("tenancy.user.switch_on_second_factor", user, actor=actor)
    return list(RecoveryCodes.activate(user).get_unused_codes())


def renew_codes(*, user: User, actor: Actor) -> list[str]:
    """New recovery codes; the old ones open nothing any more. Raises Conflict."""
    user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if not is_on(user):
        raise Conflict("Recovery codes are for the second factor, and it is off.")
    Authenticator.objects.filter(user_id=user.pk, type=Authenticator.Type.RECOVERY_CODES).delete()
    record("tenancy.user.renew_recovery_codes", user, actor=actor)
    return list(RecoveryCodes.activate(user).get_unused_codes())


def switch_off(*, user: User, actor: Actor) -> User:
    """The password alone opens again: by the user, or by an admin for somebody who has lost the device."""
    if not Authenticator.objects.filter(user_id=user.pk).delete()[0]:
        raise Conflict(f"{user} has no second factor.")
    record("tenancy.user.switch_off_second_factor", user, actor=actor)
    return user


def check(user: User, code: str) -> None:
    """Take a code of the device, or a recovery code, once. Guessing is bounded. Raises WrongCode, RateLimited."""
    verdict = limits.take(f"second-factor:{user.pk}", rate=0.1, burst=10)
    if not verdict.allowed:
        raise verdict.refusal()
    with transaction.atomic():
        kept = {each.type: each for each in Authenticator.objects.select_for_update().filter(user_id=user.pk)}
        device, codes = kept.get(Authenticator.Type.TOTP), kept.get(Authenticator.Type.RECOVERY_CODES)
        if device is not None:
            step = _step_of(MFAAdapter().decrypt(device.data["secret"]), code)
            if step is not None and step > device.data.get("last_step", 0):
                device.data["last_step"] = step
                device.save(update_fields=["data"])
                device.record_usage()
                return
        if codes is not None and RecoveryCodes(codes).validate_code(code):
            codes.record_usage()
            return
    raise WrongCode("Give the next one that the device shows, or a recovery code that you have not used.")


def _step_of(secret: str, code: str) -> int | None:
    """The step of the clock that a code belongs to: the present one or a neighbour, if the code is right."""
    step: int
    for step in yield_hotp_counters_from_time():
        if compare_user_code(actual=code, expected=format_hotp_value(hotp_value(secret, step))):
            return step
    return None
