from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [("operations", "0006_remember_and_wait")]

    operations = [
        migrations.CreateModel(
            name="FailingTask",
            fields=[
                ("name", models.CharField(max_length=80, primary_key=True, serialize=False)),
                ("problem", models.CharField(max_length=500)),
                ("since", models.DateTimeField(db_default=Now())),
                ("at", models.DateTimeField(db_default=Now())),
            ],
        ),
    ]
