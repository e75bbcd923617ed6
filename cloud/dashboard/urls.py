"""The dashboard's pages. A project is named in the path; what is in it goes by its id, which never changes."""

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from cloud.dashboard.views import (
    account,
    bulk,
    components,
    consoles,
    images,
    instances,
    launch,
    notifications,
    project,
    project_settings,
    quota,
    saved_views,
    security,
    single_sign_on,
)
from cloud.dashboard.views.admin import flavors, health, hosts, joining, quota_requests, records, tenants
from compute.verbs import VERBS

IN_PROJECT = "projects/<str:project>"


class VerbConverter(StringConverter):
    regex = "|".join(VERBS)


register_converter(VerbConverter, "verb")

urlpatterns = [
    path("", project.Home.as_view(), name="home"),
    path("sign-in", account.SignIn.as_view(), name="sign-in"),
    path("sign-in/second-factor", account.SecondFactor.as_view(), name="second-factor"),
    path("sign-in/single", single_sign_on.Begin.as_view(), name="single-sign-on"),
    path("sign-in/single/<str:provider_id>", single_sign_on.Callback.as_view(), name="openid_connect_callback"),
    path("sign-out", account.SignOut.as_view(), name="sign-out"),
    path("theme", account.Theme.as_view(), name="theme"),
    path("account/tokens", account.Tokens.as_view(), name="tokens"),
    path("account/tokens/<uuid:token>/revoke", account.RevokeToken.as_view(), name="revoke-token"),
    path("account/profile", account.Profile.as_view(), name="profile"),
    path("account/password", account.Password.as_view(), name="password"),
    path("account/security", security.Security.as_view(), name="security"),
    path("account/second-factor", security.NewSecondFactor.as_view(), name="new-second-factor"),
    path("account/sessions/end", security.EndSession.as_view(), name="end-other-sessions"),
    path("account/sessions/<uuid:ident>/end", security.EndSession.as_view(), name="end-session"),
    path("account/single-sign-on/<int:ident>/forget", single_sign_on.Forget.as_view(), name="forget-single-sign-on"),
    path("notifications", notifications.Notifications.as_view(), name="notifications"),
    path("design", components.Components.as_view(), name="components"),
    path("projects", project.Projects.as_view(), name="projects"),
    path(IN_PROJECT, project.Overview.as_view(), name="overview"),
    path(f"{IN_PROJECT}/getting-started", project.GettingStarted.as_view(), name="getting-started"),
    path(f"{IN_PROJECT}/activity", project.Activity.as_view(), name="activity"),
    path(f"{IN_PROJECT}/quota", quota.Quota.as_view(), name="quota"),
    path(
        f"{IN_PROJECT}/quota/<uuid:ident>/withdraw", quota.WithdrawQuotaRequest.as_view(), name="withdraw-quota-request"
    ),
    path(f"{IN_PROJECT}/settings", project_settings.Settings.as_view(), name="project-settings"),
    path(f"{IN_PROJECT}/members", project.Members.as_view(), name="members"),
    path(f"{IN_PROJECT}/members/<uuid:user>", project.OneMember.as_view(), name="member"),
    path(f"{IN_PROJECT}/images", images.Images.as_view(), name="images"),
    path(f"{IN_PROJECT}/images/<uuid:image>", images.OneImage.as_view(), name="image"),
    path(f"{IN_PROJECT}/launch", launch.Launch.as_view(), name="launch"),
    path(f"{IN_PROJECT}/launch/preview", launch.Preview.as_view(), name="launch-preview"),
    path(f"{IN_PROJECT}/operations/<uuid:operation>/cancel", instances.CancelOperation.as_view(), name="cancel"),
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
    path("cloud/health", health.Health.as_view(), name="health"),
    path("cloud/health/<uuid:ident>/repair", health.Repair.as_view(), name="repair"),
    path("cloud/capacity", health.Capacity.as_view(), name="capacity"),
    path("cloud/hosts/<uuid:host>/drain", health.Drain.as_view(), name="drain"),
    path("cloud/hosts", hosts.Hosts.as_view(), name="hosts"),
    path("cloud/hosts/new", joining.NewHost.as_view(), name="new-host"),
    path("cloud/hosts/join-tokens/<uuid:token>/revoke", joining.RevokeJoinToken.as_view(), name="revoke-join-token"),
    path("cloud/hosts/<uuid:host>", hosts.OneHost.as_view(), name="host"),
    path("cloud/hosts/<uuid:host>/settings", hosts.HostSettings.as_view(), name="host-settings"),
    path("cloud/hosts/<uuid:host>/change", hosts.ChangeHost.as_view(), name="change-host"),
    path("cloud/flavors", flavors.Flavors.as_view(), name="flavors"),
    path("cloud/flavors/<uuid:flavor>", flavors.OneFlavor.as_view(), name="flavor"),
    path("cloud/flavors/<uuid:flavor>/delete", flavors.DeleteFlavor.as_view(), name="delete-flavor"),
    path("cloud/projects", tenants.CloudProjects.as_view(), name="cloud-projects"),
    path("cloud/projects/<uuid:ident>", tenants.CloudProject.as_view(), name="cloud-project"),
    path("cloud/quota-requests", quota_requests.QuotaRequests.as_view(), name="quota-requests"),
    path("cloud/quota-requests/<uuid:ident>", quota_requests.AnswerQuotaRequest.as_view(), name="answer-quota-request"),
    path("cloud/users", tenants.Users.as_view(), name="users"),
    path("cloud/users/<uuid:user>", tenants.OneUser.as_view(), name="user"),
    path("cloud/users/<uuid:user>/second-factor", tenants.ResetSecondFactor.as_view(), name="reset-second-factor"),
    path("cloud/operations", records.CloudOperations.as_view(), name="cloud-operations"),
    path("cloud/audit", records.Audit.as_view(), name="audit"),
]
