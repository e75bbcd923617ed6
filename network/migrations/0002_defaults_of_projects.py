"""Projects from before get what new ones begin with, and limits for the kinds that are new."""

import uuid

from django.conf import settings
from django.db import migrations

from network import addressing

NAME = "default"
NEW_LIMITS = {"subnets": 20, "port_forwards": 50}


def give(apps, schema_editor):
    model = {name: apps.get_model("network", name) for name in (
        "Network", "Subnet", "Router", "Port", "Address", "SecurityGroup", "SecurityGroupRule",
    )}
    for project in apps.get_model("tenancy", "Project").objects.order_by("created_at"):
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("SELECT nextval('network_vni')")
            vni = cursor.fetchone()[0]
        own = {"project": project, "name": NAME}
        network = model["Network"].objects.create(**own, vni=vni, mtu=settings.NETWORK_MTU)
        cidr = addressing.nth_subnet(settings.DEFAULT_NETWORKS, 24, project.pk.int)
        gateway = addressing.default_gateway(cidr)
        subnet = model["Subnet"].objects.create(
            **own, network=network, cidr=cidr, gateway=gateway,
            allocation_ranges=addressing.default_ranges(cidr, gateway),
        )
        router = model["Router"].objects.create(**own)
        ident = uuid.uuid4()
        leg = model["Port"].objects.create(
            id=ident, project=project, network=network, name=f"port-{ident.hex[:8]}",
            mac=":".join(f"{octet:02x}" for octet in (0x06, *ident.bytes[:5])),
            holder_type="router", holder_id=router.pk, holder_slot=0, holder_name=NAME, goes_with_holder=True,
        )
        model["Address"].objects.create(port=leg, subnet=subnet, address=gateway)
        group = model["SecurityGroup"].objects.create(
            **own,
            description="Outgoing traffic is open. Incoming traffic is open from members of this group.",
        )
        for family in (4, 6):
            rule = {"group": group, "family": family}
            model["SecurityGroupRule"].objects.create(**rule, direction="egress")
            model["SecurityGroupRule"].objects.create(**rule, direction="ingress", remote_group=group)
    for quota in apps.get_model("tenancy", "Quota").objects.all():
        quota.limits = {**NEW_LIMITS, **quota.limits}
        quota.save(update_fields=["limits"])


class Migration(migrations.Migration):

    dependencies = [
        ('network', '0001_initial'),
        ('tenancy', '0007_session_proof'),
    ]

    operations = [
        migrations.RunPython(give, migrations.RunPython.noop),
    ]
