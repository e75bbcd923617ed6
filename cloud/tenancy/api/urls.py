from cloud.tenancy.api import projects, quota_requests, tokens, users

urlpatterns = [*users.urlpatterns, *tokens.urlpatterns, *projects.urlpatterns, *quota_requests.urlpatterns]
