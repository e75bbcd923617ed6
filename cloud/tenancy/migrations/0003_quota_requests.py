import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenancy', '0002_session_version'),
    ]

    operations = [
        migrations.CreateModel(
            name='QuotaRequest',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('kinds', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=40), size=None)),
                ('limits', models.JSONField()),
                ('before', models.JSONField()),
                ('reason', models.CharField(blank=True, max_length=1000)),
                ('requested_by', models.CharField(max_length=80)),
                ('requested_by_id', models.UUIDField(null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('state', models.CharField(choices=[('open', 'Open'), ('approved', 'Approved'), ('declined', 'Declined'), ('withdrawn', 'Withdrawn')], default='open', max_length=9)),
                ('note', models.CharField(blank=True, max_length=1000)),
                ('decided_by', models.CharField(blank=True, max_length=80)),
                ('decided_at', models.DateTimeField(null=True)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='quota_requests', to='tenancy.project')),
            ],
            options={
                'indexes': [models.Index(fields=['-created_at', '-id'], name='quota_request_latest')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('state', 'open')), fields=('project', 'kinds'), name='one_open_request_per_project_and_kinds'), models.CheckConstraint(condition=models.Q(models.Q(('decided_at', None), ('state', 'open')), models.Q(models.Q(('state', 'open'), _negated=True), ('decided_at__isnull', False)), _connector='OR'), name='decided_request_has_a_time')],
            },
        ),
    ]
