from django.urls import path

from cloud.hosts.agent_api import views

urlpatterns = [
    path("join", views.JoinView.as_view()),
    path("heartbeat", views.HeartbeatView.as_view()),
    path("claim", views.ClaimView.as_view()),
    path("orders/<uuid:order_id>/renew", views.RenewView.as_view()),
    path("report", views.ReportView.as_view()),
    path("reports", views.ReportsView.as_view()),
    path("stream", views.StreamView.as_view()),
]
