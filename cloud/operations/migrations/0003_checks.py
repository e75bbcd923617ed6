import django.db.models.functions.datetime
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('operations', '0002_hint_open_pages'),
    ]

    operations = [
        migrations.CreateModel(
            name='Check',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=120, unique=True)),
                ('code', models.CharField(max_length=8)),
                ('promise', models.CharField(max_length=255)),
                ('checked_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('seconds', models.FloatField(default=0)),
                ('problem', models.CharField(blank=True, max_length=500)),
                ('count', models.PositiveIntegerField(default=0)),
                ('breaches', models.JSONField(default=list)),
                ('repair_requested_at', models.DateTimeField(null=True)),
                ('repair_requested_by', models.CharField(blank=True, max_length=80)),
                ('repaired_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.AddIndex(
            model_name='operation',
            index=models.Index(condition=models.Q(('outcome', 'failed')), fields=['-finished_at'], name='operation_failed'),
        ),
    ]
