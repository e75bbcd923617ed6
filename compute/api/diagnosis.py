"""/api/v1/projects/{project}/instances/{instance}/diagnose-connection: why it cannot be reached"""

from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.fields import Integer, ReferenceField
from cloud.api.serializers import Body
from cloud.api.views import Verb
from cloud.tenancy.models import Role
from compute.api.instances import InstanceView
from compute.diagnosis import Diagnosis, Origin, diagnose, look_closer
from compute.models import Instance
from compute.status import with_status
from network import addressing
from network.doctor.hops import ASKABLE, VERDICTS, Hop, Wish

INTERNET = "internet"


def instances_of(scope: Any) -> Any:
    own = Instance.objects.filter(project=scope.project)
    return with_status(own.select_related("project", "machine__host"))


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "description": "`internet`, or an address."},
            {
                "type": "object",
                "properties": {"instance": {"type": "string", "description": "A name or an id."}},
                "required": ["instance"],
                "additionalProperties": False,
            },
        ]
    }
)
class OriginField(serializers.Field):
    """`internet`, an address, or `{"instance": …}`."""

    default_error_messages = {"invalid": "Give “internet”, an address, or an object with an instance's name or id."}

    def to_internal_value(self, data: Any) -> Origin:
        if data == INTERNET:
            return Origin()
        if isinstance(data, str):
            try:
                address = addressing.read_address(data)
            except ValueError as error:
                raise serializers.ValidationError(f"{error} Or “internet”.") from None
            return Origin() if address.is_loopback else Origin(address=str(address))
        if not isinstance(data, dict) or set(data) != {"instance"}:
            self.fail("invalid")
        reference = ReferenceField(instances_of)
        reference._context = self.context  # type: ignore[attr-defined]
        try:
            return Origin(instance=reference.to_internal_value(data["instance"]))  # type: ignore[arg-type]
        except serializers.ValidationError as error:
            raise serializers.ValidationError({"instance": error.detail}) from None


class DiagnoseForm(Body):
    """From where, and what should be reached. Left out: by TCP from the internet."""

    port = Integer(required=False, min_value=1, max_value=65535, help_text="In the guest. icmp has none.")
    protocol = serializers.ChoiceField(ASKABLE, required=False)

    def get_fields(self) -> dict[str, serializers.Field]:
        return {"from": OriginField(required=False), **super().get_fields()}

    def validate(self, body: dict[str, Any]) -> dict[str, Any]:
        protocol, port = body.get("protocol", "tcp"), body.get("port")
        if protocol == "icmp" and port is not None:
            raise serializers.ValidationError({"port": "icmp has no ports."})
        if protocol != "icmp" and port is None:
            raise serializers.ValidationError({"port": "Say which port of the guest, e.g. 22."})
        return {"origin": body.get("from", Origin()), "wish": Wish(protocol, port)}


class FixSerializer(serializers.Serializer):
    """A call of this API that opens the hop. With `?dry_run=true` it shows what it would change."""

    method = serializers.CharField()
    path = serializers.CharField()
    body = serializers.DictField()
    says = serializers.CharField(help_text="What it does, in words.")


class HopSerializer(serializers.Serializer):
    """One hop on the way."""

    name = serializers.CharField()
    looked_at = serializers.CharField()
    verdict = serializers.ChoiceField(VERDICTS)
    says = serializers.CharField()
    seen = serializers.CharField(allow_blank=True, help_text="What the instance's host counts there, in words.")
    fix_by = serializers.CharField(allow_blank=True, help_text="Who can open it: you or operator.")
    fix = FixSerializer(allow_null=True)


class DiagnosisSerializer(serializers.Serializer):
    """The way of a first packet, hop by hop."""

    verdict = serializers.ChoiceField(("open", "blocked", "unknown"))
    says = serializers.CharField(help_text="The first hop that blocks, in words; or that none does.")
    blocked_at = serializers.CharField(allow_null=True, help_text="The name of that hop.")
    fix = FixSerializer(allow_null=True, help_text="What opens it. Ask again afterwards.")
    hops = HopSerializer(many=True)


class DiagnoseConnection(InstanceView, Verb):
    """Walks the way of a first packet to the instance, and names the first hop that blocks it, with what opens it.

    Where the instance runs, its host is asked as well, for two seconds at most: whether the guest has its address, and
    what it answers. It changes nothing, and whoever may see the instance may ask.
    """

    serializer = DiagnosisSerializer  # type: ignore[assignment]
    summaries = {"POST": "Find out why it cannot be reached"}
    forms = {"POST": DiagnoseForm}
    roles = {"POST": Role.VIEWER}

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        dry = self.is_dry
        found = shown(look_closer(diagnose(instance=self.one(kwargs["ref"]), **self.form())))
        return Response({**found, "plan": self.unchanged()} if dry else found)


def shown(found: Diagnosis) -> dict[str, Any]:
    """A diagnosis as the answer tells it."""
    hops = [{**_hop(hop)} for hop in found.hops]
    first = found.blocked_at
    return {
        "verdict": found.verdict,
        "says": found.says,
        "blocked_at": first.name if first else None,
        "fix": _hop(first)["fix"] if first else None,
        "hops": hops,
    }


def _hop(hop: Hop) -> dict[str, Any]:
    fix = hop.fix
    told = {"method": fix.method, "path": fix.path, "body": fix.body, "says": fix.says} if fix else None
    about = {"name": hop.name, "looked_at": hop.looked_at, "verdict": hop.verdict, "says": hop.says, "seen": hop.seen}
    return {**about, "fix_by": hop.fix_by, "fix": told}


urlpatterns = [
    path("projects/<str:project>/instances/<str:ref>/diagnose-connection", DiagnoseConnection.as_view()),
]
