from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("compute", "0022_trash")]

    operations = [
        migrations.AddField("instance", "volume_wish", models.JSONField(default=list, db_default=[])),
    ]
