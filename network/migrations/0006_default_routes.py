from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):

    dependencies = [
        ('network', '0005_tunnels'),
    ]

    operations = [
        migrations.AddField(
            model_name='port',
            name='gateway',
            field=models.BooleanField(default=False),
        ),
        migrations.AddConstraint(
            model_name='port',
            constraint=models.UniqueConstraint(
                fields=['holder_type', 'holder_id'], condition=Q(gateway=True), name='holder_has_one_chosen_gateway'
            ),
        ),
        migrations.AddConstraint(
            model_name='port',
            constraint=models.CheckConstraint(
                condition=Q(gateway=False) | Q(holder_id__isnull=False), name='chosen_gateway_has_a_holder'
            ),
        ),
    ]
