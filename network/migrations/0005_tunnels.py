from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('network', '0004_mbps'),
    ]

    operations = [
        migrations.AddField(
            model_name='networkonhost',
            name='vtep',
            field=models.CharField(default='', max_length=45),
        ),
    ]
