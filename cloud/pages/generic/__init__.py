"""Pages of a resource: its list, one item, changing it, doing something to it. An app only says what is special.

What all pages of a resource share is said once, and each page inherits it beside its kind:

    class KeyPairPage(ResourcePage):
        model, key, title = KeyPair, "keypair", "Key pairs"
        listed_at = section = "keypairs"

    class KeyPairs(KeyPairPage, ListPage):
        template, form = "compute/keypairs/list.html", KeyPairForm

Who may be here, the roles, one transaction per form and refusals are the business of `Page`.
"""

from cloud.pages.generic.items import ChangePage, ItemFormPage, ItemPage, VerbPage
from cloud.pages.generic.listing import ListPage
from cloud.pages.generic.resource import ResourcePage

__all__ = ["ChangePage", "ItemFormPage", "ItemPage", "ListPage", "ResourcePage", "VerbPage"]
