from network.api import (
    address_pools,
    floating_ips,
    networks,
    port_forwards,
    ports,
    routers,
    security_groups,
    subnets,
)

urlpatterns = [
    *networks.urlpatterns,
    *subnets.urlpatterns,
    *ports.urlpatterns,
    *routers.urlpatterns,
    *security_groups.urlpatterns,
    *address_pools.urlpatterns,
    *floating_ips.urlpatterns,
    *port_forwards.urlpatterns,
]
