"""Operations in the REST API."""

from cloud.operations.api.serializers import OperationSerializer

__all__ = ["OperationSerializer"]
