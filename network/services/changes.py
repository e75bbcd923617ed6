"""How a row is changed: as everywhere."""

from cloud.changes import change

__all__ = ["change"]
