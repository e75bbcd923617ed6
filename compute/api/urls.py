from compute.api import (
    boots,
    bulk,
    capacity,
    captures,
    console_logs,
    consoles,
    diagnosis,
    flavors,
    instances,
    keypairs,
    metrics,
    placement,
)

urlpatterns = [
    *flavors.urlpatterns,
    *keypairs.urlpatterns,
    *instances.urlpatterns,
    *bulk.urlpatterns,
    *capacity.urlpatterns,
    *metrics.urlpatterns,
    *console_logs.urlpatterns,
    *placement.urlpatterns,
    *boots.urlpatterns,
    *consoles.urlpatterns,
    *captures.urlpatterns,
    *diagnosis.urlpatterns,
]
