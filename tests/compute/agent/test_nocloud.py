"""What a guest is told about itself."""

import io
import json
import shlex

import pycdlib

from compute.agent import host_keys, metadata, nics, nocloud
from compute.agent.nics import Nic
from compute.ssh import fingerprint
from tests.hosts import make_spec

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0 anna@laptop"
MACHINE = "6f1c1d6e-4c0e-4b43-9d53-2f6f0c1b9a01"


def seed(**changes):
    content = {"instance_id": MACHINE, "hostname": "web", "ssh_authorized_keys": [KEY], "user_data": "", **changes}
    return make_spec(id=MACHINE, seed=content)


def test_meta_data_is_yaml_without_quoting_to_get_wrong():
    assert nocloud.meta_data(seed()["seed"]) == (
        f'{{\n "instance-id": "{MACHINE}",\n "local-hostname": "web",\n "public-keys": [\n  "{KEY}"\n ]\n}}\n'
    )


def test_user_data_is_what_the_tenant_wrote():
    script = "#!/bin/sh\necho 'ä' > /root/it\n"
    assert nocloud.user_data(seed(user_data=script)["seed"]) == script
    assert nocloud.user_data(seed(user_data=None)["seed"]) == "#cloud-config\n{}\n"


def test_vendor_data_is_a_cloud_config_with_the_host_key():
    key = host_keys.make()
    first, document = nocloud.vendor_data(key).split("\n", 1)
    assert first == "#cloud-config"
    keys = json.loads(document)["ssh_keys"]
    assert keys["ed25519_private"] == key.private
    assert keys["ed25519_public"].endswith("\n"), "guests write it to a file as it is"
    assert keys["ed25519_public"].split() == [*key.public.split(), fingerprint(key.public)]


def test_network_config_has_a_line_for_each_nic():
    two = [Nic("52:54:00:00:00:01", "10.0.2.15/24"), Nic("52:54:00:00:00:02")]
    assert nocloud.network_config(two) == (
        '{"version": 2, "ethernets": {\n'
        '"nic0": {"match": {"macaddress": "52:54:00:00:00:01"}, "addresses": ["10.0.2.15/24"]},\n'
        '"nic1": {"match": {"macaddress": "52:54:00:00:00:02"}, "dhcp4": true, "dhcp6": true}\n'
        "}}\n"
    )
    assert json.loads(nocloud.network_config(two))["version"] == 2
    assert json.loads(nocloud.network_config([])) == {"version": 2, "ethernets": {}}


def test_a_guest_asks_for_the_addresses_of_its_ports():
    nic = {"port": "p", "network": "n", "mac": "52:54:00:00:00:01", "mtu": 1500, "addresses": ["10.0.0.5/24"]}
    ipv6 = {**nic, "mac": "52:54:00:00:00:02", "addresses": ["fd00::5/64"]}
    assert nocloud.network_config(nics.of(make_spec(nics=[nic, ipv6]))) == (
        '{"version": 2, "ethernets": {\n'
        '"nic0": {"match": {"macaddress": "52:54:00:00:00:01"}, "dhcp4": true, "dhcp6": false},\n'
        '"nic1": {"match": {"macaddress": "52:54:00:00:00:02"}, "dhcp4": true, "dhcp6": true}\n'
        "}}\n"
    )


def test_the_iso_has_the_label_and_the_files():
    files = nocloud.files(seed(user_data="#!/bin/sh\n" + "x" * 65000)["seed"], [], host_keys.make())
    image = pycdlib.PyCdlib()
    image.open_fp(io.BytesIO(nocloud.iso(files)))
    assert image.pvd.volume_identifier.strip() == b"cidata"
    for name, content in files.items():
        for path in ({"rr_path": f"/{name}"}, {"joliet_path": f"/{name}"}):
            read = io.BytesIO()
            image.get_file_from_iso_fp(read, **path)
            assert read.getvalue() == content


def test_a_password_is_told_as_its_hash_to_root_alone():
    """In the vendor data of the seed's disk; not where every program of the guest reads, over the network."""
    spec = seed(password_hash="$6$salt$hash")
    document = json.loads(nocloud.vendor_data(host_keys.make(), "$6$salt$hash").partition("\n")[2])
    assert (document["password"], document["ssh_pwauth"], document["chpasswd"]) == (
        "$6$salt$hash", True, {"expire": False},
    )  # fmt: skip
    assert b"$6$salt$hash" in nocloud.files(spec["seed"], [], host_keys.make())["vendor-data"]
    assert "$6$salt$hash" not in json.dumps(metadata.pages(spec))


def test_a_new_password_is_a_script_for_every_boot_beside_the_cloud_config():
    reset = {"id": MACHINE, "user": "o'hara", "hash": "$6$salt$hash"}
    spec = seed(password_reset=reset)
    text = nocloud.files(spec["seed"], [], host_keys.make())["vendor-data"].decode()
    first, document = text.split("\n", 1)
    config, hook = json.loads(document)
    assert (first, config.partition("\n")[0]) == ("#cloud-config-archive", "#cloud-config")
    assert hook.startswith("#cloud-boothook\n#!/bin/sh\n")
    assert shlex.quote("o'hara:$6$salt$hash") in hook
    assert "$6$salt$hash" not in json.dumps(metadata.pages(spec))
