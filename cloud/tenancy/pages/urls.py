"""The pages of accounts, projects, quota and users."""

from django.urls import path

from cloud.tenancy.pages import (
    account,
    notifications,
    project,
    provider,
    quota,
    quota_requests,
    security,
    tenants,
    users,
)

P = "projects/<str:project>"

urlpatterns = [
    path("sign-in", account.SignIn.as_view(), name="sign-in"),
    path("sign-in/second-factor", account.SecondFactor.as_view(), name="second-factor"),
    path("sign-in/single", provider.Begin.as_view(), name="single-sign-on"),
    path("sign-in/single/<str:provider_id>", provider.Callback.as_view(), name="openid_connect_callback"),
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
    path("account/single-sign-on/<int:ident>/forget", provider.Forget.as_view(), name="forget-single-sign-on"),
    path("notifications", notifications.Notifications.as_view(), name="notifications"),
    path("projects", project.Projects.as_view(), name="projects"),
    path(f"{P}/settings", project.Settings.as_view(), name="project-settings"),
    path(f"{P}/members", project.Members.as_view(), name="members"),
    path(f"{P}/members/<uuid:user>", project.OneMember.as_view(), name="member"),
    path(f"{P}/quota", quota.Quota.as_view(), name="quota"),
    path(f"{P}/quota/<uuid:ident>/withdraw", quota.WithdrawQuotaRequest.as_view(), name="withdraw-quota-request"),
    path("cloud/projects", tenants.CloudProjects.as_view(), name="cloud-projects"),
    path("cloud/projects/<uuid:ident>", tenants.CloudProject.as_view(), name="cloud-project"),
    path("cloud/quota-requests", quota_requests.QuotaRequests.as_view(), name="quota-requests"),
    path("cloud/quota-requests/<uuid:ident>", quota_requests.AnswerQuotaRequest.as_view(), name="answer-quota-request"),
    path("cloud/users", users.Users.as_view(), name="users"),
    path("cloud/users/<uuid:user>", users.OneUser.as_view(), name="user"),
    path("cloud/users/<uuid:user>/second-factor", users.ResetSecondFactor.as_view(), name="reset-second-factor"),
]
