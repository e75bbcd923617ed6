"""What instances cost: the price that their flavor had when they got it, for as long as they hold their place on a
host. Those in the trash cost nothing."""

from cloud.costs import kinds

kinds.register(
    "instance",
    """SELECT i.id, i.name, f.name AS size, i.labels, i.price_per_hour, a.created_at AS began_at
    FROM hosts_allocation a
        JOIN compute_instance i ON a.resource_type = 'instance' AND i.id = a.resource_id
        JOIN compute_machine m ON m.id = i.machine_id AND m.host_id = a.host_id
        JOIN compute_flavor f ON f.id = i.flavor_id
    WHERE i.project_id = %(project)s AND i.trashed_at IS NULL""",
)
