import uuid

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models
from django.db.models import Q

import cloud.tenancy.models


class Migration(migrations.Migration):
    """Every volume gets a type. Those from before get one without limits, which is free as they were."""

    dependencies = [
        ("storage", "0008_trash"),
        ("tenancy", "0007_session_proof"),
    ]

    operations = [
        migrations.CreateModel(
            name="VolumeType",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("name", cloud.tenancy.models.NameField(unique=True)),
                ("description", models.CharField(blank=True, max_length=255)),
                ("labels", models.JSONField(blank=True, default=dict)),
                ("iops", models.PositiveIntegerField(blank=True, null=True)),
                ("mib_per_second", models.PositiveIntegerField(blank=True, null=True)),
                ("price_per_gib_hour", models.DecimalField(decimal_places=6, default=0, max_digits=7)),
                ("enabled", models.BooleanField(default=True)),
                ("public", models.BooleanField(default=True)),
                ("is_default", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("projects", models.ManyToManyField(blank=True, related_name="+", to="tenancy.project")),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=Q(is_default=True), fields=["is_default"], name="one_default_volume_type"
                    ),
                    models.CheckConstraint(
                        condition=Q(is_default=False) | Q(enabled=True, public=True),
                        name="default_volume_type_is_for_everybody",
                    ),
                    models.CheckConstraint(
                        condition=Q(iops=None) | Q(iops__gte=10, iops__lte=1_000_000),
                        name="volume_type_iops_are_possible",
                    ),
                    models.CheckConstraint(
                        condition=Q(mib_per_second=None) | Q(mib_per_second__gte=1, mib_per_second__lte=100_000),
                        name="volume_type_bandwidth_is_possible",
                    ),
                    models.CheckConstraint(
                        condition=Q(price_per_gib_hour__gte=0), name="volume_type_price_is_not_negative"
                    ),
                ]
            },
        ),
        migrations.RunSQL(
            """INSERT INTO storage_volumetype
            (id, name, description, labels, price_per_gib_hour, enabled, public, is_default)
            VALUES (gen_random_uuid(), 'standard', '', '{}', 0, true, true, true)""",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.AddField(
            model_name="volume",
            name="type",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="volumes", to="storage.volumetype"
            ),
        ),
        migrations.AddField(
            model_name="volume",
            name="price_per_gib_hour",
            field=models.DecimalField(decimal_places=6, default=0, max_digits=7),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="volume",
            name="priced_since",
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
        ),
        migrations.RunSQL(
            "UPDATE storage_volume SET type_id = (SELECT id FROM storage_volumetype); SET CONSTRAINTS ALL IMMEDIATE",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.AlterField(
            model_name="volume",
            name="type",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="volumes", to="storage.volumetype"
            ),
        ),
    ]
