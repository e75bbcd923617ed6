"""Addresses of PostgreSQL, Redis and stores, as the environment gives them, with passwords in them or beside them."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

PASSWORD_VARIABLES = {"DATABASE_URL": "PILEUS_DATABASE_PASSWORD", "REDIS_URL": "PILEUS_REDIS_PASSWORD"}


def split(variable: str, url: str) -> SplitResult:
    """The parts of a server's URL. Raises ImproperlyConfigured, without the URL's secrets, when it cannot be read."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # parsed only now
        readable = bool(parts.scheme) and not parts.fragment and "@" not in parts.path + parts.query
    except ValueError:
        readable = False
    if not readable:
        hint = "Percent-encode the special characters of its password"
        if beside := PASSWORD_VARIABLES.get(variable):
            hint += f", or leave the password out and give it as it is in {beside}"
        raise ImproperlyConfigured(f"{variable} is not a URL that can be read. {hint}.")
    return parts


def database(url: str, password: str = "") -> dict[str, Any]:
    """NAME, USER, PASSWORD, HOST, PORT and OPTIONS of Django from a libpq URI.

    `?host=/directory` names a Unix socket; `password` is taken when the URI has none.
    """
    parts = split("DATABASE_URL", url)
    options = dict(parse_qsl(parts.query))
    return {
        "NAME": unquote(parts.path.lstrip("/")) or "pileus",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or "") or password,
        "HOST": options.pop("host", parts.hostname or ""),
        "PORT": str(options.pop("port", parts.port or "")),
        "OPTIONS": options,
    }


def redis(url: str, password: str = "", *, variable: str = "REDIS_URL") -> str:
    """The URL, checked, with `password` (any characters) in it when it has none of its own."""
    parts = split(variable, url)
    if not password or parts.password:
        return url
    login = f"{parts.username or ''}:{quote(password, safe='')}"
    return parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}").geturl()


def without_credentials(url: str) -> str:
    """The URL as it may be shown or given to others: without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def store(variable: str, place: str, otherwise: Path) -> Path | str:
    """A folder, or a bucket's address: `s3://NAME` or `s3://NAME/PREFIX`. Raises ImproperlyConfigured."""
    if "://" not in place:
        return Path(place or otherwise)
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?", place):
        raise ImproperlyConfigured(f"{variable} is a folder, or a bucket's address: s3://NAME or s3://NAME/PREFIX.")
    return place


def s3(endpoint: str) -> str:
    """The address of an S3 service; "": AWS's. Raises ImproperlyConfigured."""
    if endpoint and not re.fullmatch(r"https?://[^/?#@\s]+/?", endpoint):
        raise ImproperlyConfigured("PILEUS_S3_ENDPOINT is the address of an S3 service, as https://s3.example:9000.")
    return endpoint.rstrip("/")
