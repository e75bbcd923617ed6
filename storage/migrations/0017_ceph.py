from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("storage", "0016_terms"),
    ]

    operations = [
        migrations.AddField(
            model_name="volumetype",
            name="pool_kind",
            field=models.CharField(
                blank=True, choices=[("folder", "Folder"), ("ceph", "Ceph")], db_default="", max_length=10
            ),
        ),
        migrations.RunSQL(
            "UPDATE storage_volumetype SET pool_kind = 'folder' WHERE pool IS NOT NULL", migrations.RunSQL.noop
        ),
    ]
