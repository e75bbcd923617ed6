from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('compute', '0017_packets'),
    ]

    operations = [
        migrations.AddField(
            model_name='instance',
            name='password_hash',
            field=models.CharField(blank=True, db_default='', max_length=200),
        ),
        migrations.AddField(
            model_name='keypair',
            name='created_by',
            field=models.CharField(blank=True, db_default='', max_length=80),
        ),
    ]
