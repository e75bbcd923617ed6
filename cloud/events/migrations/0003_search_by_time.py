"""The log as it was at a moment is found at once."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("events", "0002_search_by_rare_values")]

    operations = [
        migrations.AddIndex(model_name="event", index=models.Index(fields=["at"], name="event_by_time")),
    ]
