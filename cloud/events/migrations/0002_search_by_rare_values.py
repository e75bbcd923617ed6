import cloud.events.models
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0001_initial'),
    ]

    operations = [
        # A long log takes longer than any request may.
        migrations.RunSQL('SET LOCAL statement_timeout = 0', 'SET LOCAL statement_timeout = 0'),
        migrations.RemoveIndex(
            model_name='event',
            name='event_by_subject',
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['subject_id', 'transaction', 'id'], name='event_by_subject_id'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['subject_type', 'transaction', 'id'], name='event_by_subject_type'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['subject_name', 'transaction', 'id'], name='event_by_subject_name'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['actor', 'transaction', 'id'], name='event_by_actor'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(condition=models.Q(('request_id', ''), _negated=True), fields=['request_id', 'transaction', 'id'], name='event_by_request'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(cloud.events.models.Verb(), models.F('transaction'), models.F('id'), name='event_by_verb'),
        ),
    ]
