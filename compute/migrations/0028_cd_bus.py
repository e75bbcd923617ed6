from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("compute", "0027_cds_of_isos")]

    operations = [
        migrations.AddField("instance", "cd_bus", models.CharField(db_default="", default="", max_length=10)),
    ]
