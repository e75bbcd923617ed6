"""The SSH host keys that hosts make."""

import stat

from cryptography.hazmat.primitives import serialization

from agent.durability import write_secret
from compute.agent import host_keys
from compute.ssh import fingerprint


def test_a_fingerprint_is_what_ssh_keygen_shows():
    public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIForijd/K++q9dYKtbaoMLqqSJOKWk6HQyAnl0IdJ/Yb"
    assert fingerprint(public) == "SHA256:+ZKc5FX7Dk9NHoL5I8+I6w92sjBm9zojiY0H0dwK6mM"


def test_a_key_is_kept_for_nobody_else_to_read(tmp_path):
    file = tmp_path / "host-key"
    assert host_keys.read(file) is None
    (tmp_path / "host-key.new").write_bytes(b"half")  # of a worker that was killed
    key = host_keys.make()
    write_secret(file, key.private)
    assert host_keys.read(file) == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    private = serialization.load_ssh_private_key(key.private.encode(), password=None)
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert public.decode() == key.public


def test_keys_are_different():
    assert len({host_keys.make().public for _ in range(20)}) == 20
