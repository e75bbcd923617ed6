from cloud.tenancy.api import projects, quota_requests, saved_views, sessions, tokens, users

urlpatterns = [
    *users.urlpatterns,
    *tokens.urlpatterns,
    *sessions.urlpatterns,
    *projects.urlpatterns,
    *quota_requests.urlpatterns,
    *saved_views.urlpatterns,
]
