from cloud.hosts.api import metrics, views

urlpatterns = [*views.urlpatterns, *metrics.urlpatterns]
