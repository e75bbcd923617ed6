from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("compute", "0024_password_reset"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="instance",
            index=models.Index(condition=models.Q(trashed_at=None), fields=["created_at", "id"], name="instance_by_age"),
        ),
    ]
