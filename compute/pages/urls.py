"""The pages of compute's resources. A project is named in the path; what is in it goes by its id."""

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from cloud.pages.bulk import list_routes
from compute.pages import (
    all_instances,
    attaching,
    bulk,
    capacity,
    captures,
    consoles,
    diagnosis,
    draining,
    flavors,
    instances,
    keypairs,
    launch,
    moving,
    saved_views,
)
from compute.verbs import VERBS

P = "projects/<str:project>"
I = f"{P}/instances/<uuid:instance>"  # noqa: E741
K = f"{P}/keypairs/<uuid:keypair>"


class VerbConverter(StringConverter):
    regex = "|".join(VERBS)


register_converter(VerbConverter, "verb")

urlpatterns = [
    path(f"{P}/launch", launch.Launch.as_view(), name="launch"),
    path(f"{P}/launch/preview", launch.Preview.as_view(), name="launch-preview"),
    *list_routes(f"{P}/instances", instances.InstanceList, bulk.Selected),
    path(f"{P}/instances/views", saved_views.SaveView.as_view(), name="save-view"),
    path(f"{P}/instances/views/<uuid:view>", saved_views.RenameView.as_view(), name="rename-view"),
    path(f"{P}/instances/views/<uuid:view>/forget", saved_views.ForgetView.as_view(), name="forget-view"),
    path(I, instances.OneInstance.as_view(), name="instance"),
    path(f"{I}/console", consoles.Console.as_view(), name="console"),
    path(f"{I}/log", consoles.ConsoleLog.as_view(), name="console-log"),
    path(f"{I}/placement", instances.Placement.as_view(), name="placement"),
    path(f"{I}/change", instances.Change.as_view(), name="change-instance"),
    path(f"{I}/create-image", captures.CreateImage.as_view(), name="create-image"),
    path(f"{I}/move", moving.Move.as_view(), name="move-instance"),
    path(f"{I}/diagnose", diagnosis.Diagnose.as_view(), name="diagnose"),
    path(f"{I}/open-ssh", instances.OpenSsh.as_view(), name="open-ssh"),
    path(f"{I}/<verb:verb>", instances.DoVerb.as_view(), name="instance-verb"),
    path(f"{P}/volumes/<uuid:volume>/attach", attaching.AttachTo.as_view(), name="attach-volume"),
    *list_routes(f"{P}/keypairs", keypairs.KeyPairs),
    path(f"{K}/change", keypairs.ChangeKeyPair.as_view(), name="change-keypair"),
    path(f"{K}/delete", keypairs.DeleteKeyPair.as_view(), name="delete-keypair"),
    *list_routes("cloud/instances", all_instances.AllInstances, bulk.SelectedOfAll),
    path("cloud/capacity", capacity.Capacity.as_view(), name="capacity"),
    path("cloud/hosts/<uuid:host>/cordon", capacity.Cordon.as_view(), name="cordon"),
    path("cloud/hosts/<uuid:host>/drain", draining.Drain.as_view(), name="drain-host"),
    path("cloud/hosts/<uuid:host>/drain/cancel", draining.CancelDrain.as_view(), name="cancel-drain"),
    *list_routes("cloud/flavors", flavors.Flavors),
    path("cloud/flavors/<uuid:flavor>", flavors.OneFlavor.as_view(), name="flavor"),
    path("cloud/flavors/<uuid:flavor>/delete", flavors.DeleteFlavor.as_view(), name="delete-flavor"),
]
