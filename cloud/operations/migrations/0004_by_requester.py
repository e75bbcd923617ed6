from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('operations', '0003_checks'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='operation',
            index=models.Index(fields=['requested_by_id', '-finished_at'], name='operation_by_requester'),
        ),
    ]
