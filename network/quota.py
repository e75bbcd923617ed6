"""What counts in a project's quota. A router's legs are its own affair, and count with it."""

from cloud.tenancy import quota
from network.models import FloatingIP, Network, Port, PortForward, Router, SecurityGroup, SecurityGroupRule, Subnet

quota.register("networks", lambda project_id: Network.objects.filter(project_id=project_id))
quota.register("subnets", lambda project_id: Subnet.objects.filter(project_id=project_id))
quota.register("ports", lambda project_id: Port.objects.filter(project_id=project_id).exclude(holder_type="router"))
quota.register("routers", lambda project_id: Router.objects.filter(project_id=project_id))
quota.register("security_groups", lambda project_id: SecurityGroup.objects.filter(project_id=project_id))
quota.register(
    "security_group_rules", lambda project_id: SecurityGroupRule.objects.filter(group__project_id=project_id)
)
quota.register("floating_ips", lambda project_id: FloatingIP.objects.filter(project_id=project_id))
quota.register("port_forwards", lambda project_id: PortForward.objects.filter(project_id=project_id))
