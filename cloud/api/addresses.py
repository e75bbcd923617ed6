"""From where a request comes: the address that limits, sign-ins and sessions are kept under; and where this cloud is.

Behind a reverse proxy every request would come from the proxy. PILEUS_TRUSTED_PROXIES names the proxies (addresses or
networks, by commas): what they say in X-Forwarded-For counts, read from the right as far as it is they who say it.
Anybody else's X-Forwarded-For is somebody's claim, and counts for nothing.
"""

import ipaddress
from collections.abc import Callable
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_HOPS = 20


@cache
def networks(text: str) -> tuple[Network, ...]:
    """The networks of a setting. Raises ImproperlyConfigured."""
    try:
        return tuple(ipaddress.ip_network(one.strip(), strict=False) for one in text.split(",") if one.strip())
    except ValueError as error:
        raise ImproperlyConfigured(f"PILEUS_TRUSTED_PROXIES: {error}") from None


def client_address(peer: str, forwarded: str) -> str:
    """Who asks: the last address on the way that is no trusted proxy; the peer, where that is none."""
    found = peer
    for said in reversed(forwarded.split(",")[-MAX_HOPS:]):
        if not _is_trusted(found) or not said.strip():
            break
        address = said.strip().removeprefix("[").partition("]")[0]
        address = address.partition(":")[0] if address.count(":") == 1 else address  # IPv4 with a port
        try:
            found = str(ipaddress.ip_address(address))
        except ValueError:
            break
    return found


def _is_trusted(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks(settings.TRUSTED_PROXIES))


class ClientAddress:
    """REMOTE_ADDR becomes the client's, for everything that comes after."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response
        networks(settings.TRUSTED_PROXIES)  # a wrong setting is told at the start

    def __call__(self, request: HttpRequest) -> HttpResponse:
        forwarded = request.META.pop("HTTP_X_FORWARDED_FOR", "")
        request.META["REMOTE_ADDR"] = client_address(request.META.get("REMOTE_ADDR", ""), forwarded)
        return self.get_response(request)


def address(request: Any) -> str:
    """From where a request comes, as it is noted."""
    return request.META.get("REMOTE_ADDR") or "unknown"


def counted_as(address: str) -> str:
    """What an address is counted under: of IPv6 the /64, as everybody has a whole one."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if known.version == 4:
        return address
    mapped = known.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network(f"{known}/64", strict=False).network_address)


def absolute(path: str) -> str:
    """The URL that users type for a path, whatever name or proxy this request came through."""
    return f"{settings.PUBLIC_URL}{path}"
