"""What counts in a project's quota; the cloud's own images are nobody's."""

from cloud.tenancy import quota
from storage.models import Image

quota.register("images", lambda project_id: Image.objects.filter(project_id=project_id))
quota.register("image_gib", lambda project_id: Image.objects.filter(project_id=project_id), sum_of="size_gib")
