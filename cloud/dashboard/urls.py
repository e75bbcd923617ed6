"""The dashboard's pages. A project is named in the path; what is in it goes by its id, which never changes."""

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from cloud.dashboard.views import bulk, components, consoles, instances, launch, project, saved_views
from compute.verbs import VERBS

IN_PROJECT = "projects/<str:project>"


class VerbConverter(StringConverter):
    regex = "|".join(VERBS)


register_converter(VerbConverter, "verb")

urlpatterns = [
    path("", project.Home.as_view(), name="home"),
    path("design", components.Components.as_view(), name="components"),
    path(IN_PROJECT, project.Overview.as_view(), name="overview"),
    path(f"{IN_PROJECT}/getting-started", project.GettingStarted.as_view(), name="getting-started"),
    path(f"{IN_PROJECT}/launch", launch.Launch.as_view(), name="launch"),
    path(f"{IN_PROJECT}/launch/preview", launch.Preview.as_view(), name="launch-preview"),
    path(f"{IN_PROJECT}/instances", instances.InstanceList.as_view(), name="instances"),
    path(f"{IN_PROJECT}/instances/views", saved_views.SaveView.as_view(), name="save-view"),
    path(f"{IN_PROJECT}/instances/views/<uuid:view>", saved_views.RenameView.as_view(), name="rename-view"),
    path(f"{IN_PROJECT}/instances/views/<uuid:view>/forget", saved_views.ForgetView.as_view(), name="forget-view"),
    path(f"{IN_PROJECT}/instances/selected", bulk.Selected.as_view(), name="selected-instances"),
    path(f"{IN_PROJECT}/instances/<uuid:instance>", instances.OneInstance.as_view(), name="instance"),
    path(f"{IN_PROJECT}/instances/<uuid:instance>/console", consoles.Console.as_view(), name="console"),
    path(f"{IN_PROJECT}/instances/<uuid:instance>/log", consoles.ConsoleLog.as_view(), name="console-log"),
    path(f"{IN_PROJECT}/instances/<uuid:instance>/placement", instances.Placement.as_view(), name="placement"),
    path(f"{IN_PROJECT}/instances/<uuid:instance>/change", instances.Change.as_view(), name="change-instance"),
    path(f"{IN_PROJECT}/instances/<uuid:instance>/<verb:verb>", instances.DoVerb.as_view(), name="instance-verb"),
]
