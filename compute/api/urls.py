from compute.api import bulk, capacity, flavors, instances, keypairs

urlpatterns = [
    *flavors.urlpatterns,
    *keypairs.urlpatterns,
    *instances.urlpatterns,
    *bulk.urlpatterns,
    *capacity.urlpatterns,
]
