from cloud.operations.api import views

urlpatterns = views.urlpatterns
