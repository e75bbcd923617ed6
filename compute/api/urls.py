from compute.api import bulk, capacity, flavors, instances, keypairs, metrics

urlpatterns = [
    *flavors.urlpatterns,
    *keypairs.urlpatterns,
    *instances.urlpatterns,
    *bulk.urlpatterns,
    *capacity.urlpatterns,
    *metrics.urlpatterns,
]
