import django.db.models.deletion
import pgtrigger.migrations
from django.db import migrations, models

# The rows move as they are: what is free on their hosts has them subtracted already.
MOVE_ALLOCATIONS = """
    ALTER TABLE hosts_allocation DISABLE TRIGGER USER;
    INSERT INTO hosts_allocation
        (id, resource_type, resource_id, host_id, vcpus, memory_mib, disk_gib, created_at)
    SELECT gen_random_uuid(), 'instance', id, host_id, vcpus, memory_mib, disk_gib, created_at FROM compute_allocation;
    SET CONSTRAINTS ALL IMMEDIATE;
    ALTER TABLE hosts_allocation ENABLE TRIGGER USER;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('compute', '0011_operations_remember'),
        ('hosts', '0005_allocations'),
    ]

    operations = [
        migrations.RunSQL(MOVE_ALLOCATIONS, reverse_sql=migrations.RunSQL.noop),
        pgtrigger.migrations.RemoveTrigger(
            model_name='allocation',
            name='host_has_room',
        ),
        migrations.DeleteModel(
            name='Allocation',
        ),
        migrations.RemoveConstraint(
            model_name='instance',
            name='seen_power_is_known',
        ),
        migrations.RemoveConstraint(
            model_name='instance',
            name='running_instance_has_a_host',
        ),
        migrations.RenameField(
            model_name='instance',
            old_name='seen_power',
            new_name='seen',
        ),
        migrations.AlterField(
            model_name='instance',
            name='seen',
            field=models.CharField(default='unknown', max_length=20),
        ),
        migrations.AlterField(
            model_name='instance',
            name='host',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='hosts.host'),
        ),
        migrations.AddConstraint(
            model_name='instance',
            constraint=models.CheckConstraint(condition=models.Q(('seen__in', ['unknown', 'running', 'paused', 'suspended', 'stopped', 'broken', 'gone'])), name='seen_power_is_known'),
        ),
        migrations.AddConstraint(
            model_name='instance',
            constraint=models.CheckConstraint(condition=models.Q(('host__isnull', False), models.Q(('seen__in', ['running', 'paused']), _negated=True), _connector='OR'), name='running_instance_has_a_host'),
        ),
    ]
