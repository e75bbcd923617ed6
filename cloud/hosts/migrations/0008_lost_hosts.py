from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("hosts", "0007_orders_say_what_is_wrong")]

    operations = [
        migrations.AddField(model_name="host", name="lost_at", field=models.DateTimeField(null=True)),
    ]
