"""URLs of servers: read strictly, and told apart from their secrets."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from cloud import server_addresses


@pytest.mark.parametrize("read", [server_addresses.database, server_addresses.redis])
@pytest.mark.parametrize("password", ["ab/cd+ef==", "a#b", "a?b@c", "a/b@c", "1/2"])
def test_a_raw_password_that_breaks_the_url_is_refused_without_telling_it(read, password):
    with pytest.raises(ImproperlyConfigured, match="_PASSWORD") as refusal:
        read(f"scheme://control:{password}@server:1234/0")
    assert password not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "password", "expected"),
    [
        ("redis://control@redis:6379/0", "a/b@c d", "redis://control:a%2Fb%40c%20d@redis:6379/0"),
        ("redis://redis:6379/0", "x", "redis://:x@redis:6379/0"),
        ("redis://control:own@redis:6379/0", "x", "redis://control:own@redis:6379/0"),
        ("redis://control@redis:6379/0", "", "redis://control@redis:6379/0"),
    ],
)
def test_a_password_beside_the_url_is_put_into_it(url, password, expected):
    assert server_addresses.redis(url, password) == expected


@pytest.mark.parametrize(
    ("url", "password", "host", "kept"),
    [
        ("postgresql://pileus@/pileus?host=/run/db", "", "/run/db", ""),
        ("postgresql://pileus@db:5432/pileus", "a/b#c", "db", "a/b#c"),
        ("postgresql://pileus:a%2Fb@db:5432/pileus", "other", "db", "a/b"),
    ],
)
def test_a_database_has_the_password_of_its_url_or_the_one_beside_it(url, password, host, kept):
    found = server_addresses.database(url, password)
    assert (found["HOST"], found["PASSWORD"], found["NAME"]) == (host, kept, "pileus")


def test_credentials_are_left_out():
    assert server_addresses.without_credentials("redis://u:p@h:1/0") == "redis://h:1/0"
