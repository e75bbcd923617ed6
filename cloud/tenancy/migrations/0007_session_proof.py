from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenancy', '0006_notifications_seen'),
    ]

    operations = [
        migrations.AddField(
            model_name='browsersession',
            name='proof',
            field=models.CharField(default='', max_length=64),
        ),
    ]
