from cloud.tenancy.api import projects, quota_requests, saved_views, tokens, users

urlpatterns = [
    *users.urlpatterns,
    *tokens.urlpatterns,
    *projects.urlpatterns,
    *quota_requests.urlpatterns,
    *saved_views.urlpatterns,
]
