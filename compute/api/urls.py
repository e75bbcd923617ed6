from compute.api import flavors, instances, keypairs

urlpatterns = [*flavors.urlpatterns, *keypairs.urlpatterns, *instances.urlpatterns]
