"""The single disks and NICs in series of metrics: of which kind each is, and what people call it."""

from uuid import UUID

from compute.models import DISK_METRICS, NIC_METRICS, Instance
from compute.samples import Series
from network.models import Port
from storage.models import Volume

KINDS = {"disks": DISK_METRICS, "nics": NIC_METRICS}


def of_kind(series: Series, metrics: tuple[str, ...]) -> list[UUID]:
    """Those of which something of this kind was measured, in a stable order."""
    measured = (
        device
        for device, values in series.devices.items()
        if any(value is not None for name in metrics for value in values[name])
    )
    return sorted(measured)


def names_of(instance: Instance, series: Series) -> dict[UUID, str]:
    """What each is called: its volume, its network with the address there, or the instance for its own disk. Those that
    are gone are left out."""
    if not series.devices:
        return {}
    volumes = Volume.objects.filter(pk__in=series.devices, project=instance.project_id).values_list("pk", "name")
    ports = Port.objects.filter(pk__in=series.devices, project=instance.project_id)
    plugged = ports.select_related("network").prefetch_related("addresses")
    return {instance.pk: instance.name, **dict(volumes), **{port.pk: _nic(port) for port in plugged}}


def _nic(port: Port) -> str:
    addresses = ", ".join(one.address for one in port.addresses.all())
    return f"{port.network.name} ({addresses})" if addresses else port.network.name
