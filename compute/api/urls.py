from compute.api import flavors, keypairs

urlpatterns = [*flavors.urlpatterns, *keypairs.urlpatterns]
