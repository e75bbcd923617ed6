from django.db import migrations, models


def pin(apps, schema_editor):
    """Until now a type named its storage host by what that called its pool: it is who has volumes of the type, or who
    alone says that it serves them."""
    VolumeType, Host = apps.get_model("storage", "VolumeType"), apps.get_model("hosts", "Host")
    for each in VolumeType.objects.filter(pool_kind="nbd"):
        having = {host for host in each.volumes.values_list("active__host", flat=True) if host}
        saying = Host.objects.filter(lost_at=None, **{f"capabilities__pools__{each.pool}__kind": "nbd"})
        found = having or set(saying.values_list("pk", flat=True))
        if len(found) == 1:
            each.served_by = found.pop()
            each.save(update_fields=["served_by"])


class Migration(migrations.Migration):
    dependencies = [("storage", "0021_readers"), ("hosts", "0009_left_behind")]

    operations = [
        migrations.AddField(
            model_name="volumetype", name="served_by", field=models.UUIDField(editable=False, null=True)
        ),
        migrations.RunPython(pin, migrations.RunPython.noop),
    ]
