from cloud.tenancy.api import notifications, projects, quota_requests, saved_views, sessions, tokens, users

urlpatterns = [
    *users.urlpatterns,
    *tokens.urlpatterns,
    *sessions.urlpatterns,
    *notifications.urlpatterns,
    *projects.urlpatterns,
    *quota_requests.urlpatterns,
    *saved_views.urlpatterns,
]
