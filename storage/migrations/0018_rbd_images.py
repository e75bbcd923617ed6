from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("storage", "0017_ceph"),
    ]

    operations = [
        migrations.AddField(model_name="layer", name="rbd", field=models.UUIDField(null=True)),
        migrations.RunSQL(
            "UPDATE storage_layer SET rbd = id WHERE pool IN"
            " (SELECT pool FROM storage_volumetype WHERE pool_kind = 'ceph')",
            migrations.RunSQL.noop,
        ),
    ]
