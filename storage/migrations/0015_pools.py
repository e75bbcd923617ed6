from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("storage", "0014_merges"),
    ]

    operations = [
        migrations.AddField(
            model_name="layer",
            name="pool",
            field=models.UUIDField(null=True),
        ),
        migrations.AddField(
            model_name="volumetype",
            name="pool",
            field=models.UUIDField(blank=True, null=True),
        ),
        migrations.AddIndex(
            model_name="layer",
            index=models.Index(condition=~models.Q(pool=None), fields=["pool"], name="layer_by_pool"),
        ),
    ]
