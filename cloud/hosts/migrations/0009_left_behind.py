from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("hosts", "0008_lost_hosts")]

    operations = [
        migrations.AddField(
            model_name="host", name="leaves_behind", field=models.BooleanField(db_default=False, default=False)
        ),
    ]
