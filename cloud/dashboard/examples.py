"""What the API's documentation writes into its examples: names of resources, and bodies by call.

A body that is not here has what is required and nothing else. A test sends every one of them.
"""

from typing import Any

P = "projects/{project}"
# What stands before a variable of a path → a name for it.
NAMES = {
    "instances": "web", "volumes": "data", "snapshots": "before-upgrade", "images": "debian", "keypairs": "laptop",
    "networks": "default", "subnets": "default", "ports": "web-port", "routers": "edge", "security-groups": "default",
    "floating-ips": "front", "port-forwards": "ssh", "members": "mia", "users": "mia", "hosts": "node1",
    "flavors": "small", "address-pools": "public", "saved-views": "mine",
}  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    "POST address-pools": {"name": "public", "cidr": "203.0.113.0/24"},
    "POST flavors": {"name": "medium", "vcpus": 2, "memory_mib": 2048, "disk_gib": 20},
    "PATCH flavors/{ref}": {"enabled": False},
    "PATCH hosts/{ref}": {"vcpu_overcommit": 4},
    "POST hosts/{ref}/declare-lost": {"confirm": "node1"},
    "PATCH me": {"full_name": "Mia Miller"},
    "POST projects": {"name": "shop"},
    "POST tokens": {"name": "laptop", "read_only": True},
    "POST users": {"username": "nia", "full_name": "Nia Novak"},
    "PATCH users/{ref}": {"full_name": "Mia Miller"},
    "POST quota-requests/{ref}/approve": {"note": "Enjoy."},
    "POST quota-requests/{ref}/decline": {"note": "Delete what is stopped first."},
    f"PATCH {P}/budget": {"monthly": 100},
    f"POST {P}/floating-ips": {"name": "front", "instance": "web"},
    f"POST {P}/floating-ips/{{ref}}/associate": {"instance": "web"},
    f"POST {P}/images": {"name": "mine", "source": {"kind": "upload"}},
    f"POST {P}/images/{{ref}}/share": {"project": "shop"},
    f"POST {P}/images/{{ref}}/unshare": {"project": "shop"},
    f"POST {P}/instance-actions": {"verb": "stop", "instances": ["web"]},
    f"POST {P}/instances": {"name": "web-2", "flavor": "small", "image": "debian", "generate_password": True},
    f"POST {P}/instances/{{ref}}/attach-nic": {"network": "default"},
    f"POST {P}/instances/{{ref}}/attach-volume": {"volume": "data"},
    f"POST {P}/instances/{{ref}}/clone": {"name": "web-copy"},
    f"POST {P}/instances/{{ref}}/create-image": {"name": "web-image"},
    f"POST {P}/instances/{{ref}}/detach-nic": {"network": "default"},
    f"POST {P}/instances/{{ref}}/detach-volume": {"volume": "data"},
    f"POST {P}/instances/{{ref}}/diagnose-connection": {"port": 22},
    f"POST {P}/keypairs": {"name": "desk"},
    f"POST {P}/members": {"user": "nia", "role": "member"},
    f"PATCH {P}/members/{{ref}}": {"role": "viewer"},
    f"POST {P}/networks": {"name": "backend"},
    f"POST {P}/port-forwards": {"name": "ssh", "to": {"port": "web-port", "target_port": 22}},
    f"POST {P}/ports": {"network": "default", "name": "spare"},
    f"PATCH {P}/quota": {"instances": 40},
    f"POST {P}/quota-requests": {"vcpus": 80, "reason": "A second shop opens in June."},
    f"POST {P}/routers": {"name": "edge"},
    f"POST {P}/routers/{{ref}}/attach-subnet": {"subnet": "default"},
    f"POST {P}/routers/{{ref}}/detach-subnet": {"subnet": "default"},
    f"POST {P}/saved-views": {"name": "front", "query": "label=tier:front"},
    f"PATCH {P}/saved-views/{{ref}}": {"name": "front"},
    f"POST {P}/security-groups": {"name": "web"},
    f"POST {P}/security-groups/{{group}}/rules": {
        "direction": "ingress", "protocol": "tcp", "port_min": 443, "port_max": 443, "remote_cidr": "0.0.0.0/0",
    },
    f"POST {P}/snapshots/{{ref}}/create-image": {"name": "data-image"},
    f"POST {P}/subnets": {"name": "backend", "network": "default", "cidr": "10.77.0.0/24"},
    f"POST {P}/volumes": {"name": "logs", "size_gib": 10},
    f"POST {P}/volumes/{{ref}}/clone": {"name": "data-copy"},
    f"POST {P}/volumes/{{ref}}/resize": {"size_gib": 20},
    f"POST {P}/volumes/{{ref}}/restore-backup": {"backup": "data-monday", "snapshot": "before-restore"},
    f"POST {P}/volumes/{{ref}}/revert": {"snapshot": "before-upgrade"},
    f"POST {P}/volumes/{{ref}}/snapshot": {"name": "before-upgrade"},
}  # fmt: skip
