from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("storage", "0020_cached_files")]

    operations = [
        migrations.RemoveConstraint(model_name="attachment", name="volume_is_attached_once"),
        migrations.AddConstraint(
            model_name="attachment",
            constraint=models.UniqueConstraint(
                fields=["volume"], condition=models.Q(("read_only", False)), name="volume_is_attached_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="attachment",
            constraint=models.UniqueConstraint(
                fields=["volume", "holder_type", "holder_id"], name="holder_has_a_volume_in_one_slot"
            ),
        ),
    ]
