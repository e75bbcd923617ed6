from compute.api import boots, bulk, capacity, consoles, costs, flavors, instances, keypairs, metrics

urlpatterns = [
    *flavors.urlpatterns,
    *keypairs.urlpatterns,
    *instances.urlpatterns,
    *bulk.urlpatterns,
    *capacity.urlpatterns,
    *metrics.urlpatterns,
    *boots.urlpatterns,
    *costs.urlpatterns,
    *consoles.urlpatterns,
]
