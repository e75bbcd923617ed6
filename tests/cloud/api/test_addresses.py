"""Who asks, behind proxies and without; and where this cloud is, whatever a request says."""

import secrets

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from cloud.api import addresses
from cloud.embedded.paths import TREE

PROXY, CLIENT, OTHER = "10.0.0.9", "203.0.113.7", "198.51.100.1"


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "expected"),
    [
        ("", PROXY, CLIENT, PROXY),  # nobody is trusted: it is a claim
        (PROXY, PROXY, CLIENT, CLIENT),
        (PROXY, PROXY, "", PROXY),
        (PROXY, CLIENT, OTHER, CLIENT),  # not from the proxy
        (PROXY, PROXY, f"{OTHER}, {CLIENT}", CLIENT),  # the client's own claim does not count
        ("10.0.0.0/24, 192.0.2.1", PROXY, f"{CLIENT}, 192.0.2.1, 10.0.0.3", CLIENT),
        (PROXY, PROXY, f"{CLIENT}:4711", CLIENT),
        (PROXY, PROXY, "[2001:db8::1]:4711", "2001:db8::1"),
        ("::1", "::1", "2001:db8::1", "2001:db8::1"),
        (PROXY, f"::ffff:{PROXY}", CLIENT, CLIENT),
        (PROXY, PROXY, "unknown", PROXY),
        (PROXY, PROXY, f"{CLIENT}, <script>", PROXY),
        ("0.0.0.0/0", PROXY, ", ".join([CLIENT] * 1000), CLIENT),
    ],
)
def test_the_client_is_the_last_on_the_way_who_is_no_proxy(settings, trusted, peer, forwarded, expected):
    settings.TRUSTED_PROXIES = trusted
    assert addresses.client_address(peer, forwarded) == expected


def test_a_setting_that_is_no_network_is_told(settings):
    with pytest.raises(ImproperlyConfigured, match="PILEUS_TRUSTED_PROXIES"):
        addresses.networks("10.0.0.300")


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("203.0.113.7", "203.0.113.8", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:203.0.113.7", "203.0.113.7", True),
    ],
)
def test_addresses_of_one_subscriber_are_counted_together(one, other, together):
    assert (addresses.counted_as(one) == addresses.counted_as(other)) is together


def test_users_behind_one_proxy_have_limits_of_their_own(api, fresh_limits, settings, member):
    settings.TRUSTED_PROXIES = PROXY

    def guess(client: str) -> int:
        headers = {"HTTP_X_FORWARDED_FOR": client, "HTTP_AUTHORIZATION": "Bearer wrong"}
        return api.get("projects", REMOTE_ADDR=PROXY, **headers).status_code

    mine, yours = f"2001:db8:{secrets.token_hex(2)}::1", f"2001:db8:{secrets.token_hex(2)}:1::1"
    assert {guess(mine) for _ in range(80)} == {401, 429}
    assert guess(yours) == 401


@pytest.mark.django_db
def test_absolute_urls_are_those_that_users_type(api, settings, member, project):
    settings.PUBLIC_URL = "https://cloud.example"
    mia = api.as_(member)
    for name in ("a", "b"):
        assert mia.post("projects/demo/keypairs", {"name": name}).status_code == 201
    headers = {"HTTP_HOST": "127.0.0.1:8181", "HTTP_X_FORWARDED_HOST": "elsewhere.example"}
    following = mia.get("projects/demo/keypairs?limit=1", **headers).json()["next"]
    assert following.startswith("https://cloud.example/api/v1/projects/demo/keypairs?")


def test_no_url_is_made_of_what_a_request_says():
    """Every absolute URL in an answer is `absolute`'s."""
    sources = [
        file for package in ("cloud", "compute", "storage", "network") for file in (TREE / package).rglob("*.py")
    ]
    assert [file.name for file in sources if "build_absolute_uri" in file.read_text()] == []


@pytest.mark.parametrize("path", ["/api/v1/projects", "/agent/v1/join", "/sign-in"])
@pytest.mark.parametrize(
    "head", [{"HTTP_CONTENT_ENCODING": "gzip"}, {"CONTENT_TYPE": "application/json; charset=UTF-16"}]
)
def test_a_body_in_another_form_than_it_is_read_in_is_415(db, path, head):
    assert Client().generic("POST", path, b"{}", **{"content_type": "application/json", **head}).status_code == 415


def test_a_name_that_is_not_listed_is_named_with_the_setting(db):
    answer = Client().get("/api/v1/projects", HTTP_HOST="elsewhere.example")
    assert answer.status_code == 400
    assert "elsewhere.example" in answer.json()["detail"]
    assert "PILEUS_ALLOWED_HOSTS" in answer.json()["detail"]


def test_a_cursor_is_of_one_kind_of_list(api, member, project):
    mia = api.as_(member)
    for name in ("a", "b"):
        mia.post("projects/demo/keypairs", {"name": name})
    cursor = mia.get("projects/demo/keypairs?limit=1").json()["next"].partition("cursor=")[2]
    assert mia.get(f"projects/demo/keypairs?limit=1&cursor={cursor}").status_code == 200
    assert mia.get(f"projects/demo/instances?cursor={cursor}").status_code == 400


@pytest.mark.parametrize("ask", [{"after": "?after"}, {"stream": ""}])
def test_a_cursor_ahead_of_the_log_is_refused(api, member, project, ask):
    headers = {"HTTP_ACCEPT": "text/event-stream", "HTTP_LAST_EVENT_ID": "999999999-1"} if "stream" in ask else {}
    path = "projects/demo/events" + ("" if headers else "?after=999999999-1")
    answer = api.as_(member).get(path, **headers)
    assert answer.status_code == 400
    assert "ahead" in answer.json()["errors"][0]["message"]
