import django.db.models.deletion
import django.db.models.functions.datetime
import pgtrigger.compiler
import pgtrigger.migrations
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('hosts', '0003_silence'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='host',
            name='host_with_room_and_kvm',
        ),
        migrations.RenameField(
            model_name='host',
            old_name='runs',
            new_name='offers',
        ),
        migrations.RenameField(
            model_name='host',
            old_name='has_kvm',
            new_name='accelerated',
        ),
        migrations.AddIndex(
            model_name='host',
            index=models.Index(condition=models.Q(('accelerated', True), ('enabled', True)), fields=['free_vcpus', 'free_memory_mib', 'id'], include=('free_disk_gib',), name='host_with_room_accelerated'),
        ),
    ]
