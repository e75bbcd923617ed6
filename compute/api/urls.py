from compute.api import bulk, flavors, instances, keypairs

urlpatterns = [*flavors.urlpatterns, *keypairs.urlpatterns, *instances.urlpatterns, *bulk.urlpatterns]
