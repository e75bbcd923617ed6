"""Networks, what is on them, what joins them, what lets traffic in, and what leads out."""

from network.models.hosted import NetworkOnHost, RouterOnHost
from network.models.networks import Network, Subnet
from network.models.outside import AddressPool, FloatingIP, PortForward
from network.models.ports import Address, Port, PortSecurityGroup
from network.models.routers import Router
from network.models.security import SecurityGroup, SecurityGroupRule

__all__ = [
    "Address", "AddressPool", "FloatingIP", "Network", "NetworkOnHost", "Port", "PortForward", "PortSecurityGroup",
    "Router", "RouterOnHost", "SecurityGroup", "SecurityGroupRule", "Subnet",
]  # fmt: skip
