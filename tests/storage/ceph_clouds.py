"""What tests of a small cloud with volumes in Ceph share. Its hosts are a fixture, `two`."""

from cloud.hosts.models import Host
from compute import services
from storage.models import Volume
from tests.storage.clouds import settle


def pools_of(node):
    return node.capabilities()["pools"]


def reported(cloud, number):
    """The pools of a node that the cloud knows."""
    cloud.nodes[number - 1].heartbeat()
    return host(number).capabilities["pools"]


def host(number):
    return Host.objects.get(name=f"node{number}")


def now(volume):
    return Volume.objects.select_related("active__host", "type").get(pk=volume.pk)


def image_of(volume):
    return str(now(volume).active.rbd)


def launched(cloud, number):
    instance = cloud.launch(host=host(number))
    settle(cloud)
    return instance


def plugged(cloud, number, instance):
    return cloud.nodes[number - 1].hypervisor.disks(str(instance.pk))


def attach(cloud, instance, volume):
    cloud.do(services.attach_volume, instance, volume=now(volume))
    settle(cloud)


def detach(cloud, instance, volume):
    cloud.do(services.detach_volume, instance, volume=now(volume))
    settle(cloud)


def write(ceph, volume, pattern, place="0 64k"):
    ceph.io(image_of(volume), f"write -P {pattern} {place}")


def reads(ceph, volume, pattern, place="0 64k"):
    return "verification failed" not in ceph.io(image_of(volume), f"read -P {pattern} {place}")


def kept(ceph, image):
    """What is kept of an image, also for clones alone."""
    return [line.split()[1] for line in ceph.rbd("snap", "ls", "--all", f"volumes/{image}").splitlines()[1:]]
