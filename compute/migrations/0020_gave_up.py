from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("compute", "0019_mbps")]

    operations = [
        migrations.AddField("instance", "gave_up", models.TextField(blank=True, db_default="")),
    ]
