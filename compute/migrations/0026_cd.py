import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("compute", "0025_instances_by_age"),
        ("storage", "0013_drills"),
    ]

    operations = [
        migrations.AddField(
            model_name="instance",
            name="cd",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="storage.image"
            ),
        ),
        migrations.AddField(
            model_name="instance",
            name="cd_drive",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
