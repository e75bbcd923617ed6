"""Key pairs through the API."""

import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloud.events.models import Event
from compute.models import KeyPair

PATH = "projects/demo/keypairs"


def openssh(key) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


# The same in every process of a run: tests are named after it.
ED25519 = openssh(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))) + " me@laptop"
SK = (
    "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIJ5RLOk1blMpsiZ7pXlNHgXkYvhM2BV8gzpHyE4e"
    "7hMFAAAABHNzaDo= token"
)


@pytest.mark.parametrize(
    "key",
    [ED25519, openssh(rsa.generate_private_key(65537, 2048)), openssh(ec.generate_private_key(ec.SECP384R1())), SK],
    ids=["ed25519", "rsa", "ecdsa", "sk"],
)
def test_a_public_key_is_kept_with_the_fingerprint_that_ssh_keygen_shows(api, member, key, tmp_path):
    answer = api.as_(member).post(PATH, {"name": "laptop", "public_key": key})
    assert answer.status_code == 201, answer.data
    assert answer.data["public_key"] == key
    assert answer.data["secret"] is None
    (tmp_path / "key.pub").write_text(key)
    shown = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True)
    assert answer.data["fingerprint"] == shown.stdout.split()[1]


def test_a_pair_is_generated_once_and_its_private_half_is_kept_nowhere(api, member, tmp_path):
    answer = api.as_(member).post(PATH, {"name": "laptop"})
    private = tmp_path / "key"
    private.touch(0o600)
    private.write_text(answer.data["secret"])
    derived = subprocess.run(["ssh-keygen", "-yf", private], capture_output=True, text=True, check=True)
    assert derived.stdout.split()[:2] == answer.data["public_key"].split()[:2]
    assert api.as_(member).get(f"{PATH}/laptop").data.get("secret") is None


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "Give the public key"),
        ("ssh-ed25519", "one line"),
        ("ssh-ed25519 !!!", "base64"),
        ("ssh-ed25519 AAAA", "does not hold"),
        ("ssh-ed25519 " + openssh(rsa.generate_private_key(65537, 2048)).split()[1], "does not hold"),
        (openssh(rsa.generate_private_key(65537, 1024)), "2048"),
        ("ssh-dss AAAA", "Known types"),
        (ED25519 + "\nssh-ed25519 AAAA", "one line"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "private key"),
        (SK[:-20] + " x", "base64"),
        ('command="rm" ' + ED25519, "Leave out the options"),
        (f'"{ED25519}"', "Leave out the quotes"),
    ],
)
def test_what_is_no_public_key_is_refused_in_words(api, member, key, why):
    answer = api.as_(member).post(PATH, {"name": "laptop", "public_key": key})
    assert answer.status_code == 400
    assert answer.data["errors"][0]["pointer"] == "/public_key"
    assert why in answer.data["errors"][0]["message"]
    assert not KeyPair.objects.exists()


def test_a_viewer_reads_and_a_member_writes(api, member, viewer):
    assert api.as_(viewer).post(PATH, {"name": "laptop"}).status_code == 403
    api.as_(member).post(PATH, {"name": "laptop"})
    assert api.as_(viewer).get(f"{PATH}/laptop").status_code == 200


def test_a_name_taken_is_a_conflict_with_a_pointer(api, member):
    api.as_(member).post(PATH, {"name": "laptop"})
    answer = api.as_(member).post(PATH, {"name": "laptop"})
    assert (answer.status_code, answer.data["code"]) == (409, "conflict")
    assert answer.data["errors"][0]["pointer"] == "/name"


def test_quota_names_the_kind_and_the_numbers(api, member, project):
    project.quota.limits["keypairs"] = 1
    project.quota.save()
    api.as_(member).post(PATH, {"name": "one"})
    answer = api.as_(member).post(PATH, {"name": "two"})
    assert (answer.status_code, answer.data["code"]) == (403, "over_quota")
    assert answer.data["quota"] == [{"kind": "keypairs", "limit": 1, "used": 1, "asked": 1}]


def test_changing_and_deleting_leave_one_event_each(api, member):
    mia = api.as_(member)
    mia.post(PATH, {"name": "laptop"})
    assert mia.patch(f"{PATH}/laptop", {"name": "desk", "labels": {"a": "b"}}).data["name"] == "desk"
    assert mia.delete(f"{PATH}/desk").status_code == 204
    assert mia.get(f"{PATH}/desk").status_code == 404
    actions = Event.objects.order_by("id").values_list("action", flat=True)
    assert list(actions) == [f"compute.keypair.{verb}" for verb in ("create", "update", "delete")]


def test_a_dry_run_shows_the_key_and_the_quota_and_keeps_nothing(api, member):
    answer = api.as_(member).post(f"{PATH}?dry_run=true", {"name": "laptop", "public_key": ED25519})
    assert answer.status_code == 201
    assert answer.data["plan"]["created"][0]["name"] == "laptop"
    assert answer.data["plan"]["quota"]["before"]["keypairs"]["used"] == 0
    assert answer.data["plan"]["quota"]["after"]["keypairs"]["used"] == 1
    assert not KeyPair.objects.exists()
    assert not Event.objects.exists()
