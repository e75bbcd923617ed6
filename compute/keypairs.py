"""Key pairs: OpenSSH public keys of users, or pairs made for them once, whose private half is kept nowhere."""

import base64
import re
from typing import ClassVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from cloud.events.services import Actor, record
from cloud.problems import Fault, Problem
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from compute.models import KeyPair
from compute.ssh import fingerprint

PLAIN_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
SECURITY_KEY_TYPES = {"sk-ssh-ed25519@openssh.com": 32, "sk-ecdsa-sha2-nistp256@openssh.com": 65}
MAX_KEY = 16 * 1024
MIN_RSA = 2048
MAX_RSA = 16384


class InvalidPublicKey(Problem):
    """The text is not an OpenSSH public key that we let in."""

    title: ClassVar[str] = "This is not an OpenSSH public key"

    def __init__(self, why: str):
        super().__init__(why, errors=[Fault("/public_key", why)])


def normalize(text: str) -> str:
    """One line `type base64 comment`, checked down to the numbers in it (RFC 4253, 5656, 8709; PROTOCOL.u2f)."""
    text = text.strip().removeprefix("\ufeff")
    words = text.split(None, 2)
    if "PRIVATE KEY" in text:
        raise InvalidPublicKey("This is a private key. Keep it to yourself, and send the file that ends in .pub.")
    if len(text) > MAX_KEY or len(words) < 2 or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text.strip()):
        raise InvalidPublicKey("Give one line as in ~/.ssh/id_ed25519.pub: type, base64, comment.")
    kind, encoded, comment = words[0], words[1], "".join(words[2:])
    if kind not in PLAIN_TYPES and kind not in SECURITY_KEY_TYPES:
        if text[0] in "\"'":
            raise InvalidPublicKey("Leave out the quotes around it: its first word is the type.")
        if any(known in text for known in (*PLAIN_TYPES, *SECURITY_KEY_TYPES)):
            raise InvalidPublicKey("Leave out the options before it: its first word is the type.")
        raise InvalidPublicKey(f"Known types: {', '.join([*PLAIN_TYPES, *SECURITY_KEY_TYPES])}.")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise InvalidPublicKey("Its second word is not base64.") from None
    if kind in SECURITY_KEY_TYPES:
        _check_security_key(kind, blob)
    else:
        _check_plain_key(kind, encoded)
    return f"{kind} {encoded} {comment}".strip()


def _check_plain_key(kind: str, encoded: str) -> None:
    try:
        key = serialization.load_ssh_public_key(f"{kind} {encoded}".encode())
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidPublicKey(f"It does not hold a key of type {kind}.") from None
    if isinstance(key, rsa.RSAPublicKey) and not MIN_RSA <= key.key_size <= MAX_RSA:
        raise InvalidPublicKey(f"An RSA key has {MIN_RSA} to {MAX_RSA} bits; this one has {key.key_size}.")
    if not isinstance(key, rsa.RSAPublicKey | ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey):
        raise InvalidPublicKey(f"It does not hold a key of type {kind}.")


def _check_security_key(kind: str, blob: bytes) -> None:
    """A key on a token: type, for ECDSA the curve, the point, and the application, each with its length before it."""
    parts, at = [], 0
    while at + 4 <= len(blob):
        length = int.from_bytes(blob[at : at + 4])
        parts.append(blob[at + 4 : at + 4 + length])
        at += 4 + length
    curve = [b"nistp256"] if "ecdsa" in kind else []
    expected = [kind.encode(), *curve]
    fits = at == len(blob) and parts[: len(expected)] == expected and len(parts) == len(expected) + 2
    if not fits or len(parts[-2]) != SECURITY_KEY_TYPES[kind] or not parts[-1].startswith(b"ssh:"):
        raise InvalidPublicKey(f"It does not hold a key of type {kind}.")


def create(
    *, project: Project, actor: Actor, name: str, public_key: str | None = None, labels: dict[str, str] | None = None
) -> tuple[KeyPair, str | None]:
    """Keep a public key, or make a pair and return its private half too. Raises InvalidPublicKey, OverQuota."""
    private_key = None
    if public_key is None:
        public_key, private_key = _generate(f"{name}@{project.name}")
    public_key = normalize(public_key)
    quota.require(project, keypairs=1)
    keypair = KeyPair.objects.create(
        project=project, name=name, labels=labels or {}, public_key=public_key, fingerprint=fingerprint(public_key),
        created_by=actor.name,
    )  # fmt: skip
    after = {"name": name, "fingerprint": keypair.fingerprint}
    record("compute.keypair.create", keypair, actor=actor, after=after)
    return keypair, private_key


def _generate(comment: str) -> tuple[str, str]:
    key = ed25519.Ed25519PrivateKey.generate()
    encoding = serialization.Encoding
    private = key.private_bytes(encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    public = key.public_key().public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{public.decode()} {comment}", private.decode()


def update(
    *, keypair: KeyPair, actor: Actor, name: str | None = None, labels: dict[str, str] | None = None
) -> KeyPair:  # fmt: skip
    """Change a key pair's name or labels. Instances keep the key that they were launched with."""
    asked = {"name": name, "labels": labels}
    after = {field: value for field, value in asked.items() if value is not None}
    keypair = KeyPair.objects.select_for_update().get(pk=keypair.pk)
    before = {field: getattr(keypair, field) for field in after}
    for field, value in after.items():
        setattr(keypair, field, value)
    keypair.save(update_fields=list(after) or None)
    record("compute.keypair.update", keypair, actor=actor, before=before, after=after)
    return keypair


def delete(*, keypair: KeyPair, actor: Actor) -> None:
    """Forget a key. Instances that were launched with it keep it."""
    record("compute.keypair.delete", keypair, actor=actor, before={"name": keypair.name})
    keypair.delete()
