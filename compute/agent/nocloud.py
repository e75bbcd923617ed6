"""The NoCloud seed: how a guest learns who it is at its first boot.

Three small files as pure functions, and the ISO image labelled `cidata` that carries them.
Source: cloud-init's documentation, "NoCloud" and "Networking config version 2".
"""

import io
import json
from typing import Any

import pycdlib


def meta_data(seed: dict[str, Any]) -> str:
    """JSON, which is YAML to those who read it as such: no quoting to get wrong."""
    return _document(
        {
            "instance-id": seed["instance_id"],
            "local-hostname": seed["hostname"],
            "public-keys": list(seed.get("ssh_authorized_keys") or []),
        }
    )


def user_data(seed: dict[str, Any]) -> str:
    """As the tenant wrote it; an empty cloud-config when nothing was written."""
    return seed.get("user_data") or "#cloud-config\n{}\n"


def network_config(spec: dict[str, Any]) -> str:
    """DHCP on every NIC. Matched by driver where no port says its MAC address."""
    nics = spec.get("nics") or []
    if not nics:
        ethernets = {"nic0": {"match": {"name": "e*"}, "dhcp4": True, "optional": True}}
    else:
        ethernets = {
            f"nic{number}": {"match": {"macaddress": nic["mac"]}, "dhcp4": True, "dhcp6": True}
            for number, nic in enumerate(nics)
        }
    return _document({"version": 2, "ethernets": ethernets})


def files(spec: dict[str, Any]) -> dict[str, bytes]:
    """The seed's files by name."""
    return {
        "meta-data": meta_data(spec["seed"]).encode(),
        "user-data": user_data(spec["seed"]).encode(),
        "network-config": network_config(spec).encode(),
    }


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


def _document(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
