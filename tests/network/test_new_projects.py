"""Every project begins with a network that has a way out, also one from before."""

import importlib

import pytest
from django.apps import apps
from django.db import connection

from cloud.events.services import SYSTEM
from cloud.tenancy import services
from cloud.tenancy.models import Project
from network import new_projects
from network.models import Network, Port, Router, SecurityGroup, Subnet
from network.services import networks
from network.services.ports import Holder
from network.services.uses import InUse
from tests import factories
from tests.network.conftest import ALICE

migration = importlib.import_module("network.migrations.0002_defaults_of_projects")


def shape(project: Project) -> dict:
    """What a project has, without ids."""
    leg = Port.objects.get(project=project)
    subnet = Subnet.objects.get(project=project)
    fields = ("cidr", "gateway", "allocation_ranges", "dns", "routes", "dhcp", "name")
    return {
        "network": Network.objects.values("name", "mtu", "labels").get(project=project),
        "subnet": {name: getattr(subnet, name) for name in fields},
        "router": Router.objects.values("name", "external", "snat", "routes").get(project=project),
        "leg": (leg.holder_type, leg.holder_slot, leg.holder_name, leg.goes_with_holder, leg.network.name),
        "leg's address": [one.address for one in leg.addresses.all()],
        "group": SecurityGroup.objects.values("name", "description").get(project=project),
        "rules": sorted(map(str, SecurityGroup.objects.get(project=project).rules.all())),
    }


def test_a_new_project_has_a_network_with_a_way_out(db):
    project = services.create_project(actor=SYSTEM, name="new")
    made = shape(project)
    assert made["subnet"]["cidr"].startswith("10.")
    assert made["leg's address"] == [made["subnet"]["gateway"]]
    assert made["router"]["external"]


def test_a_project_from_before_gets_the_same(db):
    project = factories.project(limits={"networks": 3})
    with connection.schema_editor() as editor:
        migration.give(apps, editor)
    by_migration = shape(project)
    leg = Port.objects.get(project=project)
    assert leg.holder_id == Router.objects.get(project=project).pk
    project.quota.refresh_from_db()
    assert project.quota.limits == {"networks": 3, "subnets": 20, "port_forwards": 50}
    services.delete_project(project=project, actor=SYSTEM)
    again = Project.objects.create(pk=project.pk, name="again")

    again.quota = factories.Quota.objects.create(project=again)
    new_projects.give(project=again, actor=SYSTEM)
    assert shape(again) == by_migration


def test_a_project_goes_with_what_it_was_given(db):
    project = services.create_project(actor=SYSTEM, name="new")
    services.delete_project(project=project, actor=SYSTEM)
    assert not Network.objects.exists()
    assert not Port.objects.exists()


def test_a_project_whose_network_is_used_stays(db, make_port, tenant):

    make_port(holder=Holder("instance", tenant.pk, 0, "web"))
    with pytest.raises(InUse, match="instance web"):
        services.delete_project(project=tenant, actor=ALICE)


def test_further_networks_keep_a_project(api, cloud_admin, tenant):
    networks.create(project=tenant, actor=ALICE, name="more")
    refused = api.as_(cloud_admin).delete(f"projects/{tenant.name}")
    assert (refused.status_code, refused.json()["detail"]) == (409, "It is in use by 1 network.")
