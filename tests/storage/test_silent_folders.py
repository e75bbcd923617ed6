"""A shared folder whose file server hangs: whoever touches a file there waits in the kernel until it answers."""

import ctypes
import os
import time

import pytest

from cloud.hosts.models import Host, HostPulse
from cloud.operations.models import Operation
from compute import services
from compute.agent.fencing import Fencing
from storage import reconcile
from storage.agent import pools
from storage.hosting import NoRoom
from storage.services import volumes
from storage.troubles import silent_folders
from tests.storage.clouds import do, make, placed, settle
from tests.storage.scenarios import share_folder

pytestmark = pytest.mark.django_db(transaction=True)
LIBC = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2


class Hanging:
    """A filesystem over a folder, of which nobody answers anything."""

    def __init__(self, folder):
        self.folder = os.fsencode(folder)
        self.device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.device},rootmode=40000,user_id=0,group_id=0".encode()
        if LIBC.mount(b"hanging", self.folder, b"fuse", 0, options):
            os.close(self.device)
            pytest.skip(f"nothing can be mounted here: {os.strerror(ctypes.get_errno())}")

    def end(self):
        """The folder is as it was before; who waits gets an error."""
        if self.device is not None:
            os.close(self.device)
            self.device = None
            LIBC.umount2(self.folder, MNT_DETACH)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)
    monkeypatch.setattr(pools, "SECONDS_TO_ANSWER", 0.5)


@pytest.fixture
def hang(cloud):
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/fuse here")
    begun = []

    def begin():
        begun.append(Hanging(cloud.home / "export"))
        return begun[-1]

    yield begin
    for each in begun:
        each.end()


@pytest.fixture
def shared(cloud):
    """A volume in the folder, on a node that tells what is wrong with it."""
    volume = placed(cloud, type=share_folder(cloud))
    cloud.node.problems_of.append(Fencing(cloud.node, cloud.node.machines).problems)
    return volume


def test_a_host_lives_on_while_a_file_server_hangs(cloud, shared, hang):
    hanging = hang()
    began = time.monotonic()
    cloud.node.heartbeat()
    cloud.node.look()
    cloud.node.heartbeat()
    assert time.monotonic() - began < 20, "no one waits for it"
    assert Host.objects.get(name="node1").capabilities["pools"] == {}
    row = shared.on_hosts.get()
    assert (row.seen, "does not answer" in row.seen_problem) == ("broken", True)
    count, cases = silent_folders()
    assert (count, cases[0].name, cases[0].words) == (1, "node1", "nfs: its file server does not answer")

    instance, own = cloud.launch(host=Host.objects.get(name="node1")), make(cloud)
    settle(cloud)
    cloud.do(services.attach_volume, instance, volume=own)
    settle(cloud)
    assert own.serial in cloud.node.hypervisor.disks(str(instance.pk)).values(), "other volumes are as usual"
    cloud.do(services.stop, instance)
    settle(cloud)

    with pytest.raises(NoRoom, match="No host reaches the shared folder now"):
        do(volumes.resize, volume=shared, size_gib=2)
    do(volumes.snapshot, volume=shared, name="before")
    settle(cloud)
    operation = Operation.objects.get(kind="storage.snapshot_volume")
    assert (operation.outcome, "does not answer" in operation.reason) == ("failed", True)

    hanging.end()
    cloud.node.heartbeat()
    HostPulse.objects.filter(host__name="node2").delete()
    shared.on_hosts.update(seen_at="2020-01-01T00:00:00Z")
    reconcile.volumes()
    settle(cloud)
    assert shared.on_hosts.get().seen == "present", "it is looked at again by itself"
    assert silent_folders() == (0, [])
