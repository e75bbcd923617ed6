"""What a machine may read of itself over its network: the pages of OpenStack's, EC2's and NoCloud's trees.

Every program in the guest can read them, whoever runs it. So the machine's private host key, which the seed's disk has
for root alone, is in none.
Source: OpenStack Nova, "Metadata service" and `network_data.json`; Amazon EC2, "Instance metadata categories".
"""

import ipaddress
import json
from collections.abc import Iterator
from typing import Any

from compute.agent import nics, nocloud

EC2_ARCHITECTURES = {"aarch64": "arm64"}
IPV6_TYPES = {True: "ipv6_dhcpv6-stateful", False: "ipv6_slaac"}
Pages = dict[str, str]


def pages(spec: dict[str, Any]) -> Pages:
    """All pages of a machine by path, without versions other than the latest. Pure."""
    return {**_openstack(spec), **_ec2(spec), **_nocloud(spec)}


def introduce(spec: dict[str, Any], plugs: nics.Plugs) -> None:
    """Give this host's network process the metadata of the guest. Raises Refused, NoAnswer."""
    for nic in spec["nics"]:
        plugs.introduce(nic["port"], pages(spec))


def _nocloud(spec: dict[str, Any]) -> Pages:
    files = nocloud.files(spec["seed"], nics.of(spec), None)
    return {"nocloud/vendor-data": "", **{f"nocloud/{name}": content.decode() for name, content in files.items()}}


def _openstack(spec: dict[str, Any]) -> Pages:
    seed = spec["seed"]
    keys = dict(_keys(seed))
    about = {
        "uuid": seed["instance_id"],
        "name": spec["name"],
        "hostname": seed["hostname"],
        "launch_index": 0,
        "project_id": spec["project"]["id"],
        "meta": {},
        "devices": [],
        "public_keys": keys,
        "keys": [{"name": name, "type": "ssh", "data": key} for name, key in keys.items()],
    }
    documents = {
        "meta_data.json": about,
        "network_data.json": network_data(spec["nics"]),
        "vendor_data.json": {},
        "vendor_data2.json": {},
    }
    found = {f"openstack/latest/{name}": json.dumps(document) for name, document in documents.items()}
    return found | ({"openstack/latest/user_data": seed["user_data"]} if seed.get("user_data") else {})


def network_data(nics: list[dict[str, Any]]) -> dict[str, Any]:
    """OpenStack's `network_data.json`: every NIC uses DHCP."""
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    for number, nic in enumerate(nics):
        link = f"nic{number}"
        links.append(
            {"id": link, "vif_id": nic["port"], "type": "phy", "mtu": nic["mtu"], "ethernet_mac_address": nic["mac"]}
        )
        versions = {ipaddress.ip_interface(each).version for each in nic["addresses"]} or {4}
        for version in sorted(versions):
            networks.append(
                {
                    "id": f"network{len(networks)}",
                    "link": link,
                    "network_id": nic["network"],
                    "type": "ipv4_dhcp" if version == 4 else IPV6_TYPES[nic.get("dhcp6", True)],
                }
            )
    return {"links": links, "networks": networks, "services": []}


def _ec2(spec: dict[str, Any]) -> Pages:
    seed = spec["seed"]
    identity = {
        "version": "2017-09-30",
        "instanceId": seed["instance_id"],
        "imageId": spec["image"]["id"],
        "accountId": spec["project"]["id"],
        "architecture": EC2_ARCHITECTURES.get(spec["architecture"], spec["architecture"]),
        "privateIp": next(_addresses(spec["nics"], 4), None),
    }
    found = {f"latest/meta-data/{path}": text for path, text in _meta_data(spec)}
    found["latest/dynamic/instance-identity/document"] = json.dumps(identity, indent=1)
    return found | ({"latest/user-data": seed["user_data"]} if seed.get("user_data") else {})


def _meta_data(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    seed = spec["seed"]
    yield "ami-id", spec["image"]["id"]
    yield "ami-launch-index", "0"
    yield "instance-id", seed["instance_id"]
    yield "hostname", seed["hostname"]
    yield "local-hostname", seed["hostname"]
    if address := next(_addresses(spec["nics"], 4), None):
        yield "local-ipv4", address
    if address := next(_addresses(spec["nics"], 6), None):
        yield "ipv6", address
    if keys := list(_keys(seed)):
        yield "public-keys", "\n".join(f"{number}={name}" for number, (name, _) in enumerate(keys))
        for number, (_, key) in enumerate(keys):
            yield f"public-keys/{number}/openssh-key", key
    for number, nic in enumerate(spec["nics"]):
        if number == 0:
            yield "mac", nic["mac"]
        of_nic = f"network/interfaces/macs/{nic['mac']}"
        yield f"{of_nic}/mac", nic["mac"]
        yield f"{of_nic}/device-number", str(number)
        yield f"{of_nic}/interface-id", nic["port"]
        yield f"{of_nic}/local-hostname", seed["hostname"]
        yield from ((f"{of_nic}/{name}", "\n".join(values)) for name, values in _of_families(nic) if values)


def _of_families(nic: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for version, addresses, blocks in (
        (4, "local-ipv4s", "subnet-ipv4-cidr-block"),
        (6, "ipv6s", "subnet-ipv6-cidr-blocks"),
    ):
        found = [each for each in map(ipaddress.ip_interface, nic["addresses"]) if each.version == version]
        yield addresses, [str(each.ip) for each in found]
        yield blocks, [str(each.network) for each in found]


def _addresses(nics: list[dict[str, Any]], version: int) -> Iterator[str]:
    for nic in nics:
        found = map(ipaddress.ip_interface, nic["addresses"])
        yield from (str(each.ip) for each in found if each.version == version)


def _keys(seed: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for number, key in enumerate(seed.get("ssh_authorized_keys") or ()):
        yield f"key-{number}", key
