from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("compute", "0023_volume_wish"),
    ]

    operations = [
        migrations.AddField(
            model_name="instance",
            name="password_reset",
            field=models.JSONField(null=True),
        ),
    ]
