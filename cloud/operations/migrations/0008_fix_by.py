from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("operations", "0007_failing_tasks")]

    operations = [
        migrations.AddField(
            model_name="operation",
            name="fix_by",
            field=models.CharField(
                blank=True,
                choices=[("you", "You"), ("operator", "Operator"), ("nobody", "Nobody")],
                db_default="",
                max_length=10,
            ),
        ),
    ]
