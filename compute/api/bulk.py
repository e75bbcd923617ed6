"""/api/v1/projects/{project}/instance-actions: one verb for many instances."""

from typing import Any

from django.urls import path
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.fields import Text
from cloud.api.schema import ProblemSerializer
from cloud.api.serializers import Body, ReferenceSerializer
from cloud.api.views import InProject
from cloud.operations.api import OperationSerializer
from cloud.operations.api.serializers import shown
from compute import bulk
from compute.verbs import VERBS

MAX_INSTANCES = 500


class ActionForm(Body):
    """A verb, whom it is for, and how: what the verb takes for one, and for clones a `suffix`."""

    verb = serializers.ChoiceField(tuple(VERBS))
    instances = serializers.ListField(
        child=Text(max_length=63), min_length=1, max_length=MAX_INSTANCES, help_text="Names or ids."
    )

    def get_fields(self) -> dict[str, Any]:
        how = {name: each for verb in VERBS.values() for name, each in verb.for_many().get_fields().items()}
        return {**super().get_fields(), **how}

    def validate(self, body: dict[str, Any]) -> dict[str, Any]:
        foreign = set(body) - {"verb", "instances", *VERBS[body["verb"]].for_many().fields}
        if foreign:
            words = f"Not for {body['verb']}."
            raise serializers.ValidationError({name: [ErrorDetail(words, "unknown_field")] for name in foreign})
        return body


class ActionResultSerializer(serializers.Serializer):
    """What became of one instance: `operation` when it has begun, `problem` when it was refused."""

    reference = serializers.CharField(help_text="As it was sent.")
    instance = ReferenceSerializer(allow_null=True)
    operation = OperationSerializer(allow_null=True)
    problem = ProblemSerializer(allow_null=True)


class ActionResultsSerializer(serializers.Serializer):
    items = ActionResultSerializer(many=True)


class InstanceActions(InProject):
    serializer = ActionResultsSerializer
    forms = {"POST": ActionForm}
    summaries = {"POST": "Act on many instances"}

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.mutate(self.act)

    def act(self) -> dict[str, Any]:
        """One verb for many, each with an answer of its own: one that is refused holds up no other."""
        body = self.form()
        references = body.pop("instances")
        results = bulk.act(project=self.project, actor=self.actor, references=references, **body)
        return {"items": [self.shown(result) for result in results]}

    def shown(self, result: bulk.Result) -> dict[str, Any]:
        instance, problem = result.instance, result.problem
        return {
            "reference": result.reference,
            "instance": {"id": str(instance.pk), "name": instance.name} if instance else None,
            "operation": shown(result.operation) if result.operation else None,
            "problem": problem.body(self.scope.request_id) if problem else None,
        }


urlpatterns = [path("projects/<str:project>/instance-actions", InstanceActions.as_view())]
