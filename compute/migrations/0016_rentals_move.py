from django.db import migrations


class Migration(migrations.Migration):
    """What deleted instances have cost is kept by cloud.costs, for resources of every kind."""

    dependencies = [
        ("compute", "0015_hardware_of_images"),
        ("costs", "0001_initial"),
    ]

    operations = [
        migrations.RunSQL(
            """INSERT INTO costs_rental
            (project_id, resource_type, resource_id, name, size, labels, price_per_hour, began_at, ended_at)
            SELECT project_id, 'instance', instance_id, name, flavor, '{}', price_per_hour, began_at, ended_at
            FROM compute_rental""",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.DeleteModel("Rental"),
    ]
