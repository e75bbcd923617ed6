from django.db import migrations
from django.db.models import Exists, F, OuterRef


def tell_hosts(apps, schema_editor):
    """Machines with several NICs were told a gateway by each until their hosts hear which one has the default route.

    Hosts are ordered what has another generation than they have reported.
    """
    Port, OnHost = apps.get_model("network", "Port"), apps.get_model("network", "NetworkOnHost")
    others = Port.objects.filter(holder_id=OuterRef("holder_id")).exclude(pk=OuterRef("pk"))
    several = Port.objects.filter(Exists(others), host__isnull=False).exclude(holder_type="router")
    OnHost.objects.filter(wanted=True, network__in=several.values("network")).update(generation=F("generation") + 1)


class Migration(migrations.Migration):

    dependencies = [
        ('network', '0006_default_routes'),
    ]

    operations = [
        migrations.RunPython(tell_hosts, migrations.RunPython.noop),
    ]
