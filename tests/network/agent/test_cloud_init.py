"""cloud-init, as Debian has it, reads the metadata of its machine: by OpenStack's, EC2's and NoCloud's sources."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compute.agent import metadata
from images import build, debian
from images.tools import BuildError
from tests.hosts import make_spec
from tests.network.agent import lab
from tests.network.agent.test_routers import closing  # noqa: F401

ADDRESS = "169.254.169.254"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0 anna@laptop"
USER_DATA = "#!/bin/sh\necho hello\n"
# What differs between a namespace and a machine: cloud-init finds out by the firmware in which cloud it is.
READ = """
import json, os, sys
from cloudinit import helpers, sources
from cloudinit.sources import DataSourceEc2, DataSourceNoCloud, DataSourceOpenStack
DataSourceOpenStack.detect_openstack = lambda accept_oracle=False: True
DataSourceEc2.identify_platform = lambda: "aws"
kind, directory, mac = sys.argv[1:]
found = {
    "OpenStack": DataSourceOpenStack.DataSourceOpenStack,
    "Ec2": DataSourceEc2.DataSourceEc2,
    "NoCloud": DataSourceNoCloud.DataSourceNoCloudNet,
}[kind]
settings = {"datasource_list": [kind], "datasource": {
    "OpenStack": {"retries": 0}, "Ec2": {}, "NoCloud": {"seedfrom": "http://169.254.169.254/nocloud/"}}}
paths = helpers.Paths({"cloud_dir": directory, "run_dir": directory})
source = found(settings, None, paths)
assert source._get_data(), "cloud-init finds no data source here"
told = {
    "id": source.get_instance_id(), "name": source.metadata.get("local-hostname"),
    "keys": source.get_public_ssh_keys(), "user_data": source.get_userdata_raw(),
}
if kind == "OpenStack":
    from cloudinit.sources.helpers import openstack
    told["network"] = openstack.convert_net_json(source.network_json, known_macs={mac: "eth0"})
text = lambda value: value.decode() if isinstance(value, bytes) else str(value)
print(json.dumps(told, default=text))
"""


@pytest.fixture(scope="session")
def cloud_init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's cloud-init, unpacked: to install it would set up this very machine at its next boot."""
    directory = tmp_path_factory.mktemp("cloud-init")
    cache = build.default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    try:
        sources = debian.debian_sources(debian.system_sources(), debian.running_release())
        with build.alone(cache, print):
            archive = debian.Archive(cache, "amd64", sources, print)
            (package,) = (one for one in archive.resolve(["cloud-init"]) if one.name == "cloud-init")
            path = archive.fetch([package])[package]
    except BuildError as error:
        pytest.skip(f"cloud-init cannot be had from Debian now: {error}")
    for name, node in debian.contents(path, lambda name: "/dist-packages/cloudinit/" in name and name.endswith(".py")):
        file = directory / name.partition("dist-packages/")[2]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(node.content)
    return directory


@pytest.mark.parametrize("kind", ["OpenStack", "Ec2", "NoCloud"])
def test_cloud_init_reads_what_the_machine_is(make_host, closing, cloud_init, tmp_path, kind):  # noqa: F811
    host = make_host(0)
    spec = lab.network(host, web="10.0.0.10")
    host.apply(spec)
    (port,) = spec["ports"]
    nic = {
        "port": port["id"], "network": spec["network"]["id"], "mac": port["mac"], "mtu": 1500,
        "addresses": ["10.0.0.10/24"], "gateway": "10.0.0.1", "dns": [],
    }  # fmt: skip
    machine = make_spec("web", nics=[nic])
    machine["seed"] |= {"ssh_authorized_keys": [KEY], "user_data": USER_DATA}
    metadata.introduce(machine, host.client)
    guest = closing(lab.Machine(host.guest(spec, "web")))
    guest.run("ip", "route", "add", ADDRESS, "dev", "eth0")
    done = subprocess.run(
        [*guest.enter, sys.executable, "-c", READ, kind, str(tmp_path), guest.guest.mac],
        env=os.environ | {"PYTHONPATH": str(cloud_init)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["id"] == machine["id"]
    assert told["name"] == "web"
    assert told["keys"] == [KEY]
    assert told["user_data"] == USER_DATA
    if kind == "OpenStack":
        (link,) = told["network"]["config"]
        assert link["mac_address"] == port["mac"]
        assert link["mtu"] == 1500
        assert [subnet["type"] for subnet in link["subnets"]] == ["dhcp4"]
