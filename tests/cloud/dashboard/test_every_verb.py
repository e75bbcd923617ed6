"""Whatever the API can change, the dashboard can: every change in the document, and the page that makes it."""

from collections.abc import Iterator

import pytest
from django.urls import get_resolver

from cloud.api.documentation import document

P = "/projects/{project}"
I = f"{P}/instances/{{ref}}"  # noqa: E741
# The API's change, and the name of the dashboard's URL that takes it.
WHERE = {
    f"POST {P}/instances": "launch",
    f"PATCH {I}": "change-instance",
    f"DELETE {I}": "instance-verb",
    **{f"POST {I}/{verb}": "instance-verb" for verb in
       ("start", "stop", "reboot", "pause", "suspend", "resume", "clone")},
    f"POST {I}/console": "console",
    f"POST {P}/instance-actions": "selected-instances",
    f"POST {P}/operations/{{ref}}/cancel": "cancel",
    f"POST {P}/keypairs": "keypairs",
    f"PATCH {P}/keypairs/{{ref}}": "change-keypair",
    f"DELETE {P}/keypairs/{{ref}}": "delete-keypair",
    f"POST {P}/members": "members",
    f"PATCH {P}/members/{{ref}}": "member",
    f"DELETE {P}/members/{{ref}}": "member",
    f"POST {P}/quota-requests": "quota",
    f"POST {P}/quota-requests/{{ref}}/withdraw": "withdraw-quota-request",
    f"POST {P}/saved-views": "save-view",
    f"PATCH {P}/saved-views/{{ref}}": "rename-view",
    f"DELETE {P}/saved-views/{{ref}}": "forget-view",
    "POST /projects": "cloud-projects",
    f"PATCH {P}": "project-settings",
    f"DELETE {P}": "cloud-project",
    f"PATCH {P}/quota": "cloud-project",
    "PATCH /me": "profile",
    "POST /tokens": "tokens",
    "DELETE /tokens/{ref}": "revoke-token",
    "DELETE /sessions/{ref}": "end-session",
    "POST /notifications/seen": "notifications",
    "POST /quota-requests/{ref}/approve": "answer-quota-request",
    "POST /quota-requests/{ref}/decline": "answer-quota-request",
    "POST /flavors": "flavors",
    "PATCH /flavors/{ref}": "flavor",
    "DELETE /flavors/{ref}": "delete-flavor",
    "PATCH /hosts/{ref}": "host-settings",
    "DELETE /hosts/{ref}": "change-host",
    "POST /hosts/{ref}/drain": "change-host",
    "POST /hosts/{ref}/enable": "change-host",
    "POST /hosts/join-tokens": "new-host",
    "DELETE /hosts/join-tokens/{ref}": "revoke-join-token",
    "POST /users": "users",
    "PATCH /users/{ref}": "user",
    "DELETE /users/{ref}": "user",
    "DELETE /users/{ref}/second-factor": "reset-second-factor",
    "POST /checks/{ref}/repair": "repair",
}  # fmt: skip


def changes() -> Iterator[str]:
    for path, methods in document()["paths"].items():
        for method in methods:
            if method != "get":
                yield f"{method.upper()} {path.removeprefix('/api/v1')}"


def test_every_change_of_the_api_has_its_place_on_the_dashboard():
    assert set(changes()) == set(WHERE)


@pytest.mark.parametrize("name", sorted(set(WHERE.values())))
def test_the_place_is_there(name):
    assert get_resolver().reverse_dict.getlist(name)
