"""The pages of networks' resources. A project is named in the path; what is in it goes by its id."""

from django.urls import path

from cloud.pages.bulk import list_routes
from network.pages import (
    address_pools,
    floating_ips,
    networks,
    port_forwards,
    ports,
    routers,
    security_groups,
    subnets,
)

P = "projects/<str:project>"
N = f"{P}/networks/<uuid:network>"
S = f"{P}/subnets/<uuid:subnet>"
PORT = f"{P}/ports/<uuid:port>"
R = f"{P}/routers/<uuid:router>"
G = f"{P}/security-groups/<uuid:group>"
F = f"{P}/floating-ips/<uuid:floating>"
FORWARD = f"{P}/port-forwards/<uuid:forward>"
POOL = "cloud/address-pools/<uuid:pool>"

urlpatterns = [
    *list_routes(f"{P}/networks", networks.Networks),
    path(N, networks.OneNetwork.as_view(), name="network"),
    path(f"{N}/change", networks.ChangeNetwork.as_view(), name="change-network"),
    path(f"{N}/delete", networks.DeleteNetwork.as_view(), name="delete-network"),
    *list_routes(f"{P}/subnets", subnets.Subnets),
    path(f"{S}/change", subnets.ChangeSubnet.as_view(), name="change-subnet"),
    path(f"{S}/delete", subnets.DeleteSubnet.as_view(), name="delete-subnet"),
    *list_routes(f"{P}/ports", ports.Ports),
    path(f"{PORT}/change", ports.ChangePort.as_view(), name="change-port"),
    path(f"{PORT}/delete", ports.DeletePort.as_view(), name="delete-port"),
    *list_routes(f"{P}/routers", routers.Routers),
    path(R, routers.OneRouter.as_view(), name="router"),
    path(f"{R}/change", routers.ChangeRouter.as_view(), name="change-router"),
    path(f"{R}/subnets/<uuid:subnet>/detach", routers.DetachSubnet.as_view(), name="detach-subnet"),
    path(f"{R}/delete", routers.DeleteRouter.as_view(), name="delete-router"),
    *list_routes(f"{P}/security-groups", security_groups.Groups),
    path(G, security_groups.OneGroup.as_view(), name="security-group"),
    path(f"{G}/change", security_groups.ChangeGroup.as_view(), name="change-security-group"),
    path(f"{G}/rules/<uuid:rule>/remove", security_groups.RemoveRule.as_view(), name="remove-rule"),
    path(f"{G}/delete", security_groups.DeleteGroup.as_view(), name="delete-security-group"),
    *list_routes(f"{P}/floating-ips", floating_ips.FloatingIPs),
    path(f"{F}/change", floating_ips.ChangeFloatingIP.as_view(), name="change-floating-ip"),
    path(f"{F}/associate", floating_ips.Associate.as_view(), name="associate-floating-ip"),
    path(f"{F}/disassociate", floating_ips.Disassociate.as_view(), name="disassociate-floating-ip"),
    path(f"{F}/delete", floating_ips.DeleteFloatingIP.as_view(), name="delete-floating-ip"),
    *list_routes(f"{P}/port-forwards", port_forwards.PortForwards),
    path(f"{FORWARD}/change", port_forwards.ChangePortForward.as_view(), name="change-port-forward"),
    path(f"{FORWARD}/delete", port_forwards.DeletePortForward.as_view(), name="delete-port-forward"),
    *list_routes("cloud/address-pools", address_pools.AddressPools),
    path(f"{POOL}/change", address_pools.ChangeAddressPool.as_view(), name="change-address-pool"),
    path(f"{POOL}/delete", address_pools.DeleteAddressPool.as_view(), name="delete-address-pool"),
]
