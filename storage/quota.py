"""What counts in a project's quota; public images are nobody's."""

from cloud.tenancy import quota
from storage.models import Image

quota.register("images", lambda project_id: Image.objects.filter(project_id=project_id))
