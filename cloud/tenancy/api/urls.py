from cloud.tenancy.api import projects, tokens, users

urlpatterns = [*users.urlpatterns, *tokens.urlpatterns, *projects.urlpatterns]
