import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('storage', '0012_moves'),
    ]

    operations = [
        migrations.AddField(
            model_name='backup',
            name='drill_found',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=40), db_default=[], default=list, size=None),
        ),
        migrations.AddField(
            model_name='backup',
            name='drill_problem',
            field=models.TextField(blank=True, db_default=''),
        ),
        migrations.AddField(
            model_name='backup',
            name='drilled_at',
            field=models.DateTimeField(null=True),
        ),
    ]
