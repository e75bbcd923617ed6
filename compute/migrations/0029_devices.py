import compute.models.samples
import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("compute", "0028_cd_bus"),
    ]

    operations = [
        migrations.CreateModel(
            name="DeviceDay",
            fields=[
                (
                    "disk_read_bytes_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), size=None
                    ),
                ),
                (
                    "disk_write_bytes_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), size=None
                    ),
                ),
                (
                    "disk_reads_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), size=None
                    ),
                ),
                (
                    "disk_writes_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), size=None
                    ),
                ),
                (
                    "network_received_bytes_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), size=None
                    ),
                ),
                (
                    "network_sent_bytes_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), size=None
                    ),
                ),
                (
                    "network_received_packets_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), null=True, size=None
                    ),
                ),
                (
                    "network_sent_packets_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), null=True, size=None
                    ),
                ),
                (
                    "network_dropped_packets_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), null=True, size=None
                    ),
                ),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "instance_id", "device_id", "at", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("instance_id", models.UUIDField()),
                ("device_id", models.UUIDField()),
                ("at", models.DateTimeField(db_index=True)),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="DeviceHour",
            fields=[
                (
                    "disk_read_bytes_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), size=None
                    ),
                ),
                (
                    "disk_write_bytes_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), size=None
                    ),
                ),
                (
                    "disk_reads_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), size=None
                    ),
                ),
                (
                    "disk_writes_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), size=None
                    ),
                ),
                (
                    "network_received_bytes_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), size=None
                    ),
                ),
                (
                    "network_sent_bytes_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), size=None
                    ),
                ),
                (
                    "network_received_packets_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), null=True, size=None
                    ),
                ),
                (
                    "network_sent_packets_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), null=True, size=None
                    ),
                ),
                (
                    "network_dropped_packets_per_second",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=compute.models.samples.Real(null=True), null=True, size=None
                    ),
                ),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "instance_id", "device_id", "at", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("instance_id", models.UUIDField()),
                ("device_id", models.UUIDField()),
                ("at", models.DateTimeField(db_index=True)),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="DeviceSample",
            fields=[
                ("disk_read_bytes_per_second", compute.models.samples.Real(null=True)),
                ("disk_write_bytes_per_second", compute.models.samples.Real(null=True)),
                ("disk_reads_per_second", compute.models.samples.Real(null=True)),
                ("disk_writes_per_second", compute.models.samples.Real(null=True)),
                ("network_received_bytes_per_second", compute.models.samples.Real(null=True)),
                ("network_sent_bytes_per_second", compute.models.samples.Real(null=True)),
                ("network_received_packets_per_second", compute.models.samples.Real(null=True)),
                ("network_sent_packets_per_second", compute.models.samples.Real(null=True)),
                ("network_dropped_packets_per_second", compute.models.samples.Real(null=True)),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "instance_id", "device_id", "at", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("instance_id", models.UUIDField()),
                ("device_id", models.UUIDField()),
                ("at", models.DateTimeField(db_index=True)),
            ],
            options={
                "abstract": False,
            },
        ),
    ]
