"""/api/v1/hosts and their join tokens, for admins of the cloud."""

from typing import Any

from django.db.models import BooleanField, Case, CharField, Q, QuerySet, Value, When
from django.db.models.functions import Now
from django.urls import path
from rest_framework import serializers

from cloud.api.fields import Flag, LabelsField, Number, as_uuid
from cloud.api.pagination import Filter
from cloud.api.serializers import Body
from cloud.api.views import Collection, Item, Once, Verb, View
from cloud.hosts import lost, services, silence
from cloud.hosts.models import Host, JoinToken
from cloud.problems import NotFound

STATUSES = ("ready", "unreachable", "quarantined", "disabled", "lost")
ADMINS = {method: True for method in ("GET", "POST", "PATCH", "DELETE")}


class LoadSerializer(serializers.Serializer):
    """What the machine uses of all that it has, with everything that runs on it."""

    cpu_percent = serializers.FloatField()
    memory_mib = serializers.IntegerField()
    memory_total_mib = serializers.IntegerField()
    disk_gib = serializers.FloatField()
    disk_total_gib = serializers.FloatField()


class HostSerializer(serializers.Serializer):
    """A compute node: what it has, what is free, what it can run, when it was last heard from."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    labels = LabelsField()
    status = serializers.ChoiceField(STATUSES)
    enabled = serializers.BooleanField(help_text="Whether anything new is placed on it.")
    vcpus = serializers.IntegerField()
    memory_mib = serializers.IntegerField()
    disk_gib = serializers.IntegerField()
    vcpu_overcommit = serializers.FloatField()
    free_vcpus = serializers.IntegerField(help_text="After overcommit; negative when it holds more than it has.")
    free_memory_mib = serializers.IntegerField()
    free_disk_gib = serializers.IntegerField()
    runs = serializers.ListField(child=serializers.CharField(), help_text="E.g. qemu/x86_64/kvm.")
    capabilities = serializers.DictField()
    quarantined = serializers.CharField(help_text="Why nothing is ordered from it; empty otherwise.")
    lost_at = serializers.DateTimeField(allow_null=True, help_text="Since when it is declared lost.")
    boot_id = serializers.CharField()
    agent_version = serializers.CharField(source="pulse.agent_version")
    seen_at = serializers.DateTimeField(source="pulse.seen_at")
    load = LoadSerializer(source="pulse.load", allow_null=True, help_text="Measured at its last heartbeat.")
    created_at = serializers.DateTimeField()


class HostChanges(Body):
    enabled = Flag()
    labels = LabelsField()
    vcpu_overcommit = Number(min_value=0.1, max_value=64)


class LossForm(Body):
    confirm = serializers.CharField(help_text="The name of the host.")
    leave_behind = Flag(
        required=False,
        help_text="Give up, too, what is in a shared folder or a Ceph pool that no other host reaches. Its files stay.",
    )


class HostView(View):
    serializer = HostSerializer
    forms = {"PATCH": HostChanges}
    needs_admin = ADMINS

    def rows(self) -> QuerySet[Host]:
        is_silent = Q(pulse__seen_at__lt=silence.reachable_since()) | Q(pulse__isnull=True)
        return Host.objects.select_related("pulse").annotate(
            status=Case(
                When(lost_at__isnull=False, then=Value("lost")),
                When(is_silent, then=Value("unreachable")),
                When(~Q(quarantined=""), then=Value("quarantined")),
                When(enabled=False, then=Value("disabled")),
                default=Value("ready"),
                output_field=CharField(),
            )
        )


class Hosts(HostView, Collection):
    filters = {
        "name": Filter(serializers.CharField()),
        "status": Filter(serializers.ChoiceField(STATUSES)),
        "enabled": Filter(serializers.BooleanField()),
    }


class OneHost(HostView, Item):
    def change(self, host: Host, body: dict[str, Any]) -> Host:
        """`enabled: false` is what `cordon` does; `vcpu_overcommit` is how many vCPUs are allocated per processor."""
        return services.update(host, actor=self.actor, **body)

    def remove(self, host: Host) -> None:
        """Refused while something is on it."""
        services.remove(host, actor=self.actor)


class Enable(HostView, Verb):
    """New resources are placed on it again."""

    def act(self, host: Host, body: dict[str, Any]) -> Host:
        return services.update(host, actor=self.actor, enabled=True)


class Cordon(HostView, Verb):
    """No new instances, volumes or routers are placed on it; those that it has stay, and keep running."""

    def act(self, host: Host, body: dict[str, Any]) -> Host:
        return services.update(host, actor=self.actor, enabled=False)


class DeclareLost(HostView, Verb):
    """A host that is silent is gone for good. What was on its own disk is given up; what is in shared folders and in
    Ceph goes on elsewhere; it may do nothing any more if it comes back. `confirm` is its name. What no other host
    reaches waits until one does, or until this is said again with `leave_behind`. A dry run lists in `at_stake` what
    becomes of what is there: it is `lost`, `taken_over`, or `interrupted` until it is started again.
    """

    forms = {"POST": LossForm}
    summaries = {"POST": "Declare a host lost"}

    def act(self, host: Host, body: dict[str, Any]) -> Host:
        return lost.declare(host, actor=self.actor, **body)

    def plan(self, body: dict[str, Any]) -> dict[str, Any]:
        host = Host.objects.get(pk=body["id"])
        return {"at_stake": [{**stake._asdict(), "id": str(stake.id)} for stake in lost.at_stake(host)]}


class JoinTokenSerializer(serializers.Serializer):
    """With it a machine becomes a host, once: `pileus-agent join URL SECRET`."""

    id = serializers.UUIDField()
    usable = serializers.BooleanField(help_text="Neither used nor expired.")
    expires_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    used_at = serializers.DateTimeField(allow_null=True)
    host = serializers.SerializerMethodField(help_text="The name of the host that it made.")

    def get_host(self, token: JoinToken) -> str | None:
        return token.host.name if token.host else None


class CreatedJoinTokenSerializer(JoinTokenSerializer):
    """With the secret: shown this once, kept nowhere."""

    secret = serializers.CharField(allow_null=True)


class JoinTokenView(View):
    serializer = JoinTokenSerializer
    created = CreatedJoinTokenSerializer
    needs_admin = ADMINS

    def rows(self) -> QuerySet[JoinToken]:
        is_usable = Case(
            When(used_at=None, expires_at__gt=Now(), then=Value(True)),
            default=Value(False),
            output_field=BooleanField(),
        )
        return JoinToken.objects.select_related("host").annotate(usable=is_usable)


class JoinTokens(JoinTokenView, Collection):
    has_labels = False

    def create(self, body: dict[str, Any]) -> Once:
        """The secret is in this answer only; a machine joins with it once."""
        return Once(*services.make_join_token(actor=self.actor))


class OneJoinToken(JoinTokenView, Item):
    def one(self, reference: str, *, name: str = "") -> JoinToken:
        ident = as_uuid(reference)
        found = self.rows().filter(pk=ident).first() if ident else None
        if found is None:
            raise NotFound()
        return found

    def remove(self, token: JoinToken) -> None:
        services.revoke_join_token(token, actor=self.actor)


urlpatterns = [
    path("hosts", Hosts.as_view()),
    path("hosts/join-tokens", JoinTokens.as_view()),
    path("hosts/join-tokens/<str:ref>", OneJoinToken.as_view()),
    path("hosts/<str:ref>", OneHost.as_view()),
    path("hosts/<str:ref>/enable", Enable.as_view()),
    path("hosts/<str:ref>/cordon", Cordon.as_view()),
    path("hosts/<str:ref>/declare-lost", DeclareLost.as_view()),
]
