"""The pages of compute's resources. A project is named in the path; what is in it goes by its id."""

from django.urls import path

from compute.pages import keypairs

P = "projects/<str:project>"
K = f"{P}/keypairs/<uuid:keypair>"

urlpatterns = [
    path(f"{P}/keypairs", keypairs.KeyPairs.as_view(), name="keypairs"),
    path(f"{K}/change", keypairs.ChangeKeyPair.as_view(), name="change-keypair"),
    path(f"{K}/delete", keypairs.DeleteKeyPair.as_view(), name="delete-keypair"),
]
