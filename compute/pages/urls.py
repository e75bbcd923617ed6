"""The pages of compute's resources. A project is named in the path; what is in it goes by its id."""

from django.urls import path

from compute.pages import capacity, flavors, keypairs

P = "projects/<str:project>"
K = f"{P}/keypairs/<uuid:keypair>"

urlpatterns = [
    path(f"{P}/keypairs", keypairs.KeyPairs.as_view(), name="keypairs"),
    path(f"{K}/change", keypairs.ChangeKeyPair.as_view(), name="change-keypair"),
    path(f"{K}/delete", keypairs.DeleteKeyPair.as_view(), name="delete-keypair"),
    path("cloud/capacity", capacity.Capacity.as_view(), name="capacity"),
    path("cloud/hosts/<uuid:host>/drain", capacity.Drain.as_view(), name="drain"),
    path("cloud/flavors", flavors.Flavors.as_view(), name="flavors"),
    path("cloud/flavors/<uuid:flavor>", flavors.OneFlavor.as_view(), name="flavor"),
    path("cloud/flavors/<uuid:flavor>/delete", flavors.DeleteFlavor.as_view(), name="delete-flavor"),
]
