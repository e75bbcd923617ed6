"""Addresses of PostgreSQL and Redis, as the environment gives them: URLs, with passwords in them or beside them."""

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
