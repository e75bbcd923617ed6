from cloud.events.api import views

urlpatterns = views.urlpatterns
