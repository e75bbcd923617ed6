"""Columns for networks, and the lookup `within`: PostgreSQL's `<<=` (is inside of, or the same)."""

from typing import Any

from django.db.models import Field, GenericIPAddressField, Lookup


class CidrField(Field):
    """An IPv4 or IPv6 network, as text like 10.0.0.0/24. PostgreSQL refuses host bits."""

    description = "A network in CIDR notation"

    def db_type(self, connection: Any) -> str:
        return "cidr"


@CidrField.register_lookup
@GenericIPAddressField.register_lookup
class Within(Lookup):
    lookup_name = "within"

    def get_prep_lookup(self) -> Any:
        return self.rhs if hasattr(self.rhs, "resolve_expression") else str(self.rhs)

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        left, left_params = self.process_lhs(compiler, connection)
        right, right_params = self.process_rhs(compiler, connection)
        return f"{left} <<= {right}", [*left_params, *right_params]
