"""The NoCloud seed: how a guest learns who it is at its first boot.

Four small files as pure functions, and the ISO image labelled `cidata` that carries them.
Source: cloud-init's documentation, "NoCloud", "Vendor data", "SSH" and
"Networking config version 2".
"""

import contextlib
import io
import json
import shlex
import uuid
from collections.abc import Sequence
from typing import Any

import pycdlib

from compute import multipart
from compute.agent.host_keys import HostKey
from compute.agent.nics import Nic
from compute.multipart import as_yaml
from compute.ssh import fingerprint


def meta_data(seed: dict[str, Any]) -> str:
    content = {
        "instance-id": seed["instance_id"],
        "local-hostname": seed["hostname"],
        "public-keys": list(seed.get("ssh_authorized_keys") or []),
    }
    return as_yaml(content, indent=1) + "\n"


def user_data(seed: dict[str, Any]) -> str:
    """The tenant's user-data without a byte order mark, MIME as an archive; an empty cloud-config if there is none."""
    text = multipart.without_mark(seed.get("user_data") or "")
    if multipart.is_multipart(text):
        with contextlib.suppress(multipart.Unreadable):  # launch refuses it, but older control planes did not
            return multipart.archive(text)
    return text or "#cloud-config\n{}\n"


def vendor_data(host_key: HostKey, password_hash: str = "", reset: dict[str, str] | None = None) -> str:
    """The cloud's cloud-config; the tenant's user-data may override it. The public key's comment is its fingerprint.

    The password is the default user's, and opens SSH as well as the console. What guests read at their first boot only
    does not reset one: that is a script for every boot.
    """
    public = f"{host_key.public} {fingerprint(host_key.public)}\n"  # guests write it to a file as it is
    keys = {"ed25519_private": host_key.private, "ed25519_public": public}
    content: dict[str, Any] = {"ssh_keys": keys}
    if password_hash:
        content |= {"password": password_hash, "chpasswd": {"expire": False}, "ssh_pwauth": True}
    config = f"#cloud-config\n{as_yaml(content)}\n"
    return f"#cloud-config-archive\n{as_yaml([config, reset_script(reset)])}\n" if reset else config


def reset_script(reset: dict[str, str]) -> str:
    """A boothook, which guests run at every boot, that sets a password at the first of them.

    At a guest's very first boot its default user may be made only later: the password is then that of the cloud-config.
    """
    user, done = shlex.quote(reset["user"]), f"/var/lib/pileus/password-{uuid.UUID(reset['id'])}"
    line = shlex.quote(f"{reset['user']}:{reset['hash']}")
    return f"""#cloud-boothook
#!/bin/sh
[ ! -e {done} ] && mkdir -p /var/lib/pileus && : >{done} || exit 0
id -u {user} >/dev/null 2>&1 || {{ echo pileus: no user {user}: the new password is ignored; exit 0; }}
echo {line} | chpasswd -e && echo pileus: {user} has a new password
"""


def network_config(nics: Sequence[Nic]) -> str:
    """One line for each NIC, so that guests without a YAML parser can read it too."""
    lines = []
    for number, nic in enumerate(nics):
        how: dict[str, Any] = {"addresses": [nic.address]} if nic.address else _asking(nic)
        lines.append(f'"nic{number}": {json.dumps({"match": {"macaddress": nic.mac}, **how})}')
    return '{"version": 2, "ethernets": {\n' + ",\n".join(lines) + "\n}}\n"


def _asking(nic: Nic) -> dict[str, Any]:
    return {"dhcp4": True, "dhcp6": nic.asks_by_dhcp6}


def files(seed: dict[str, Any], nics: Sequence[Nic], host_key: HostKey | None) -> dict[str, bytes]:
    """The seed's files by name."""
    contents = {
        "meta-data": meta_data(seed).encode(),
        "user-data": user_data(seed).encode(),
        "network-config": network_config(nics).encode(),
    }
    if host_key:
        contents["vendor-data"] = vendor_data(
            host_key, seed.get("password_hash") or "", seed.get("password_reset")
        ).encode()
    return contents


def iso(contents: dict[str, bytes]) -> bytes:
    """An ISO 9660 image labelled `cidata`, with Joliet and Rock Ridge names."""
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    for number, (name, content) in enumerate(sorted(contents.items())):
        image.add_fp(io.BytesIO(content), len(content), f"/FILE{number}.;1", rr_name=name, joliet_path=f"/{name}")
    written = io.BytesIO()
    image.write_fp(written)
    image.close()
    return written.getvalue()
