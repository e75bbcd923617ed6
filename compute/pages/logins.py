"""The part of the Launch form that asks "How will you log in?", and what it comes to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django.http import QueryDict

from cloud.problems import Fault
from compute import logins
from compute.models import Instance, KeyPair

NEW_KEY = "new_key_"  # how the fields of a key pair begin that is made along with the instance
HIDDEN = "…"
LAST_WAY = "launch_login"  # in the session: whether the last launch had a password


@dataclass(frozen=True)
class Launched:
    """What a launch has made, and what is shown of it once only."""

    instances: list[Instance]
    keypair: KeyPair | None = None
    private_key: str | None = None
    password: str | None = None  # that was generated


def initial(keypairs: list[KeyPair], user_name: str, session: SessionBase) -> dict[str, Any]:
    """All of one's own key pairs, and a password, which opens the console as well; unless one did without it last."""
    own = [keypair.name for keypair in keypairs if keypair.created_by in ("", user_name)]
    with_password = not own or session.get(LAST_WAY, True)
    return {"keypairs": own, "with_password": "on" if with_password else "", "new_key_name": free_name(keypairs)}


def remember(body: Mapping[str, Any], session: SessionBase) -> None:
    """How somebody logs in is suggested the next time."""
    session[LAST_WAY] = "password" in body or "generate_password" in body


def free_name(keypairs: list[KeyPair]) -> str:
    taken = {keypair.name for keypair in keypairs}
    names = ("laptop", *(f"laptop-{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def read(post: QueryDict) -> dict[str, Any]:
    """The API's body, as far as it is about logging in. A password that was left empty is generated."""
    body: dict[str, Any] = {"keypairs": post.getlist("keypairs")} if post.getlist("keypairs") else {}
    if "with_password" not in post:
        return body
    return body | ({"password": post["password"]} if post.get("password") else {"generate_password": True})


def new_key(post: QueryDict) -> dict[str, Any] | None:
    """The API's body of the key pair that is to be made along with the instance, if any."""
    how = post.get("new_key", "")
    if not how:
        return None
    name = post.get(f"{NEW_KEY}name", "").strip()
    return {"name": name, **({"public_key": post.get(f"{NEW_KEY}public_key", "").strip()} if how == "paste" else {})}


def of_key(fault: Fault) -> Fault:
    """A fault of the new key pair, beside its field of this form."""
    field = fault.pointer.strip("/").split("/")[0] or "name"
    return Fault(f"/{NEW_KEY}{field}", fault.message, fault.code)


def without_password(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body as it may be shown."""
    return {**body, **({"password": HIDDEN} if "password" in body else {})}


def warnings(body: Mapping[str, Any], key: Mapping[str, Any] | None) -> list[str]:
    return logins.warnings(
        keypairs=body.get("keypairs") or key,
        password=body.get("password") or body.get("generate_password"),
        user_data=body.get("user_data", ""),
    )
