"""The pages of the event log."""

from django.urls import path

from cloud.events.pages import activity

urlpatterns = [
    path("projects/<str:project>/activity", activity.Activity.as_view(), name="activity"),
    path("cloud/audit", activity.Audit.as_view(), name="audit"),
]
