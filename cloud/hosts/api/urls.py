from cloud.hosts.api import views

urlpatterns = views.urlpatterns
