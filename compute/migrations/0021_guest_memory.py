import compute.models.samples
import django.contrib.postgres.fields
from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('compute', '0020_gave_up'),
    ]

    operations = [
        migrations.AddField(model_name='sample', name='guest_memory_mib', field=compute.models.samples.Real(null=True)),
        migrations.AddField(model_name='samplehour', name='guest_memory_mib', field=django.contrib.postgres.fields.ArrayField(base_field=compute.models.samples.Real(null=True), null=True, size=None)),
        migrations.AddField(model_name='sampleday', name='guest_memory_mib', field=django.contrib.postgres.fields.ArrayField(base_field=compute.models.samples.Real(null=True), null=True, size=None)),
    ]
