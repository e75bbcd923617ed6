from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("storage", "0018_rbd_images"),
    ]

    operations = [
        migrations.AlterField(
            model_name="volumetype",
            name="pool_kind",
            field=models.CharField(
                blank=True,
                choices=[("folder", "Folder"), ("ceph", "Ceph"), ("nbd", "Nbd")],
                db_default="",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="attachment",
            name="key",
            field=models.CharField(blank=True, db_default="", max_length=64),
        ),
    ]
