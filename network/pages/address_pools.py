"""Address pools: addresses outside of the cloud, which its admins offer to projects."""

from typing import Any

from django.db.models import Count, QuerySet

from cloud.pages import forms
from cloud.pages.bulk import ForMany
from cloud.pages.deleting import DeletePage
from cloud.pages.generic import ChangePage, ListPage, ResourcePage
from network import addressing
from network.api.address_pools import AddressPoolChanges, AddressPoolForm
from network.models import AddressPool
from network.pages.fields import NEW_RANGES, RANGES
from network.services import address_pools


class PoolPage(ResourcePage):
    model, key, title = AddressPool, "pool", "Address pools"
    listed_at = section = "address-pools"
    help = "operating#floating-ips"
    for_cloud_admins = True

    def rows(self) -> "QuerySet[Any]":
        return AddressPool.objects.annotate(used=Count("floating_ips"))


class AddressPools(PoolPage, ListPage):
    template, form = "network/address_pools/list.html", AddressPoolForm
    sorts = {"name": "name", "range": "cidr", "taken": "-used"}
    live = "address_pool floating_ip"
    fields = {
        "name": forms.REQUIRED,
        "cidr": forms.REQUIRED,
        "allocation_ranges": NEW_RANGES,
        "labels": forms.LABELS,
    }

    def tell(self, shown: list[Any]) -> list[Any]:
        return [(pool, addressing.size(pool.allocation_ranges)) for pool in shown]

    def create(self, body: dict[str, Any]) -> AddressPool:
        return address_pools.create(actor=self.scope.actor, **body)

    def created(self, made: AddressPool) -> str:
        return f"Projects can take addresses of {made.name} now."

    def bulk_verbs(self) -> tuple[ForMany, ...]:
        return (ForMany(DeleteAddressPool),)


class ChangeAddressPool(PoolPage, ChangePage):
    """What is given out from now on; addresses that projects hold stay theirs."""

    template, form = "network/address_pools/change.html", AddressPoolChanges
    fields = {"name": forms.REQUIRED, "allocation_ranges": RANGES, "labels": forms.LABELS}

    def fill(self) -> dict[str, Any]:
        return {**super().fill(), "cloud": True}

    def change(self, changes: dict[str, Any]) -> AddressPool:
        return address_pools.update(pool=self.item, actor=self.scope.actor, changes=changes)


class DeleteAddressPool(PoolPage, DeletePage):
    kind = "address_pool"

    def delete(self) -> None:
        address_pools.delete(pool=self.item, actor=self.scope.actor)
