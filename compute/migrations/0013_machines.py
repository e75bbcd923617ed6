import django.db.models.deletion
import uuid
from django.db import migrations, models

# Every placed instance becomes a machine on its host, with its generation and what was seen of it.
MAKE_MACHINES = """
    INSERT INTO compute_machine (id, instance_id, host_id, hypervisor, generation,
        seen, seen_generation, seen_sequence, seen_problem, seen_facts, seen_at)
    SELECT gen_random_uuid(), id, host_id, hypervisor, generation,
        seen, seen_generation, seen_sequence, seen_problem, seen_facts, seen_at
    FROM compute_instance WHERE host_id IS NOT NULL;
    UPDATE compute_instance i SET machine_id = m.id FROM compute_machine m WHERE m.instance_id = i.id;
    SET CONSTRAINTS ALL IMMEDIATE;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('compute', '0012_hosted'),
        ('hosts', '0005_allocations'),
    ]

    operations = [
        migrations.CreateModel(
            name='Machine',
            fields=[
                ('generation', models.PositiveBigIntegerField(default=1)),
                ('seen', models.CharField(default='unknown', max_length=20)),
                ('seen_generation', models.PositiveBigIntegerField(default=0)),
                ('seen_sequence', models.PositiveBigIntegerField(default=0)),
                ('seen_problem', models.TextField(blank=True)),
                ('seen_facts', models.JSONField(default=dict)),
                ('seen_at', models.DateTimeField(null=True)),
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('hypervisor', models.CharField(max_length=20)),
                ('host', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='machines', to='hosts.host')),
                ('instance', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='machines', to='compute.instance')),
            ],
            options={
                'constraints': [
                    models.UniqueConstraint(fields=('instance', 'host'), name='one_machine_per_instance_and_host'),
                    models.CheckConstraint(condition=models.Q(('seen__in', ['unknown', 'running', 'paused', 'suspended', 'stopped', 'broken', 'gone'])), name='seen_of_a_machine_is_a_power'),
                    models.CheckConstraint(condition=models.Q(('hypervisor', ''), _negated=True), name='machine_has_a_hypervisor'),
                ],
            },
        ),
        migrations.AddField(
            model_name='instance',
            name='machine',
            field=models.OneToOneField(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='compute.machine'),
        ),
        migrations.RunSQL(MAKE_MACHINES, reverse_sql=migrations.RunSQL.noop),
        migrations.RemoveConstraint(
            model_name='instance',
            name='seen_power_is_known',
        ),
        migrations.RemoveConstraint(
            model_name='instance',
            name='running_instance_has_a_host',
        ),
        migrations.RemoveConstraint(
            model_name='instance',
            name='placed_has_a_hypervisor',
        ),
        migrations.RemoveIndex(
            model_name='instance',
            name='instance_by_host',
        ),
        *(
            migrations.RemoveField(model_name='instance', name=name)
            for name in (
                'host', 'hypervisor', 'generation', 'seen', 'seen_generation', 'seen_sequence', 'seen_problem',
                'seen_facts', 'seen_at',
            )
        ),
    ]
