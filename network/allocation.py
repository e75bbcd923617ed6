"""Addresses and VNIs are given out by the database: one statement takes the next one that is free.

Whoever allocates holds the lock of the subnet's or pool's row, so that others wait instead of taking the same one;
the unique constraints make sure.
"""

from typing import Any, ClassVar

from django.db import connection

from cloud.problems import Conflict, Fault
from network.models import Address, AddressPool, Port, Subnet

# Free are the first of a range and what follows an address that is taken, unless it is taken itself.
NEXT_FREE = """
    SELECT candidate.address
    FROM {owners} o
    CROSS JOIN LATERAL jsonb_to_recordset(o.allocation_ranges) AS span(first inet, last inet)
    CROSS JOIN LATERAL (
        SELECT span.first AS address
        UNION ALL
        SELECT taken.address + 1 FROM {taken} taken
        WHERE taken.{owner}_id = o.id AND taken.address >= span.first AND taken.address < span.last
    ) candidate
    WHERE o.id = %(owner)s AND NOT EXISTS (
        SELECT FROM {taken} other WHERE other.{owner}_id = o.id AND other.address = candidate.address
    )
    ORDER BY candidate.address LIMIT 1
"""
NEXT_OF_SUBNET = NEXT_FREE.format(owners="network_subnet", taken="network_address", owner="subnet")
NEXT_OF_POOL = NEXT_FREE.format(owners="network_addresspool", taken="network_floatingip", owner="pool")


class NoAddressLeft(Conflict):
    """All addresses of a subnet or of a pool are taken."""

    title: ClassVar[str] = "No address is left"


def next_vni() -> int:
    """A VNI that no network has. Raises NoAddressLeft when 16 million networks have them all."""
    rows = _query(
        """
        SELECT candidate FROM (SELECT nextval('network_vni') AS candidate FROM generate_series(1, 1000)) turn
        WHERE NOT EXISTS (SELECT FROM network_network WHERE vni = candidate) LIMIT 1
        """,
        {},
    )
    if not rows:
        raise NoAddressLeft("Every VNI is taken. Delete networks that are not needed.")
    return int(rows[0][0])


def allocate(port: Port, subnet: Subnet, *, pointer: str = "") -> Address:
    """Give a port the next free address of a subnet. Raises NoAddressLeft."""
    Subnet.objects.select_for_update(no_key=True).get(pk=subnet.pk)
    rows = _query(
        f"INSERT INTO network_address (port_id, subnet_id, address)"
        f" SELECT %(port)s, %(owner)s, free.address FROM ({NEXT_OF_SUBNET}) free RETURNING id, host(address)",
        {"port": port.pk, "owner": subnet.pk},
    )
    if not rows:
        words = f"Every address of {subnet} ({subnet.cidr}) is taken."
        raise NoAddressLeft(words, errors=[Fault(pointer, words, "conflict")])
    return Address(id=rows[0][0], port=port, subnet=subnet, address=rows[0][1])


def next_floating(pool: AddressPool) -> str:
    """The next free address of a pool. Raises NoAddressLeft."""
    AddressPool.objects.select_for_update(no_key=True).get(pk=pool.pk)
    rows = _query(f"SELECT host(free.address) FROM ({NEXT_OF_POOL}) free", {"owner": pool.pk})
    if not rows:
        words = f"Every address of the pool {pool} is taken. Ask an admin of the cloud for more."
        raise NoAddressLeft(words, errors=[Fault("/pool", words, "conflict")])
    return str(rows[0][0])


def _query(statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
