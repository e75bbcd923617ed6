"""What costs something. The app that owns a kind of resource registers it in its module `prices`, imported when Django
starts:

    kinds.register("volume", "SELECT v.id, v.name, …")

The query names every resource of the project `%(project)s` that holds its place now, with the columns `id`, `name`,
`size` (words, such as a flavor's name), `labels` (JSON), `price_per_hour` and `began_at`. Nothing is counted up, so
nothing can drift: sums are made of what lives and of the rentals that deleted resources have left (`end`).
"""

from functools import cache
from uuid import UUID

from django.db import connection

_living: dict[str, str] = {}


def register(resource_type: str, living: str) -> None:
    """Say which resources of this type hold a place now, as a query (see above)."""
    _living[resource_type] = living
    all_living.cache_clear()


@cache
def all_living() -> str:
    """One query for the resources of all types; `resource_type` comes first."""
    queries = [f"SELECT '{kind}' AS resource_type, living.* FROM ({query}) living" for kind, query in _living.items()]
    return "\nUNION ALL\n".join(queries)


def end(resource_type: str, resource_id: UUID, project_id: UUID) -> None:
    """A resource is about to go, or to cost something else: keep what it has cost. Called in the transaction that
    changes its row; one that holds no place leaves nothing."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO costs_rental
                (project_id, resource_type, resource_id, name, size, labels, price_per_hour, began_at)
                SELECT %(project)s, %(type)s, id, name, size, labels, price_per_hour, began_at
                FROM ({_living[resource_type]}) living WHERE id = %(id)s
                ON CONFLICT (resource_type, resource_id, began_at) DO NOTHING""",
            {"project": project_id, "type": resource_type, "id": resource_id},
        )
