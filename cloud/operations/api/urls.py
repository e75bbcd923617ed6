from cloud.operations.api import health, views

urlpatterns = [*views.urlpatterns, *health.urlpatterns]
