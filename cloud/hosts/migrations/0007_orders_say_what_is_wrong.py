from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('hosts', '0006_measured_load'),
    ]

    operations = [
        migrations.AddField(
            model_name='order',
            name='problem',
            field=models.CharField(db_default='', default='', max_length=500),
        ),
    ]
