from django.db import migrations


def take_cds_out_of_boot_files(apps, schema_editor):
    Instance = apps.get_model("compute", "Instance")
    for instance in Instance.objects.filter(boot_files__contains=[{"role": "cdrom"}]).iterator():
        instance.boot_files = [file for file in instance.boot_files if file["role"] != "cdrom"]
        instance.cd_id, instance.cd_drive = instance.image_id, True
        instance.save(update_fields=["boot_files", "cd", "cd_drive"])


class Migration(migrations.Migration):
    dependencies = [
        ("compute", "0026_cd"),
    ]

    operations = [
        migrations.RunPython(take_cds_out_of_boot_files, migrations.RunPython.noop, elidable=True),
    ]
