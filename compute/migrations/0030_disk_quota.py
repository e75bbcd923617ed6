"""Projects from before have no limit for their instances' disks until an admin sets one: they may have more by now."""

from django.db import migrations


def name_the_kind(apps, schema_editor):
    for quota in apps.get_model("tenancy", "Quota").objects.all():
        quota.limits = {"disk_gib": None, **quota.limits}
        quota.save(update_fields=["limits"])


class Migration(migrations.Migration):

    dependencies = [
        ("compute", "0029_devices"),
        ("tenancy", "0007_session_proof"),
    ]

    operations = [migrations.RunPython(name_the_kind, migrations.RunPython.noop)]
