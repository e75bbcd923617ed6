from django.db import migrations, models


class Migration(migrations.Migration):
    """Whether an image has a full cloud-init. Of those from before nobody knows, and no user data changes for them."""

    dependencies = [("storage", "0010_backups")]

    operations = [
        migrations.AddField(
            model_name="image",
            name="cloud_init",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
