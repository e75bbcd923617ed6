"""What every page of a resource has from the generic ones."""

import pytest

from cloud.pages import links
from cloud.pages.rows import find
from compute.models import KeyPair

pytestmark = pytest.mark.django_db
ID = "5c1dfb9e-8a44-4e63-8c0e-8f4e1c1e4f10"
KEYS = "/projects/demo/keypairs"


def test_a_button_that_is_pressed_twice_says_that_it_was_done_already(page_of, member, world):
    mia, delete = page_of(member), f"{KEYS}/{world.keypair.pk}/delete"
    form = {"form_key": ID}
    assert [mia.post(delete, form).status_code for _ in range(2)] == [303, 303]
    assert "It has not been done twice." in mia.get(KEYS).content.decode()


def test_what_is_gone_is_not_found(page_of, member, world):
    mia, delete = page_of(member), f"{KEYS}/{world.keypair.pk}/delete"
    mia.post(delete)
    assert mia.post(delete).status_code == 404
    assert mia.get(f"{KEYS}/{world.keypair.pk}/change").status_code == 404


def test_a_button_is_no_page(page_of, member, world):
    assert page_of(member).get(f"{KEYS}/{world.keypair.pk}/delete").status_code == 405


def test_a_list_that_creates_nothing_takes_no_form(page_of, member, world):
    assert page_of(member).post("/projects/demo/images", {"name": "x"}).status_code == 405


def test_an_item_of_another_project_is_not_found(page_of, other_tenant, world):
    assert page_of(other_tenant).get(f"/projects/elsewhere/keypairs/{world.keypair.pk}/change").status_code == 404


@pytest.mark.parametrize("ident", ["", "no-id", "\x00", "9" * 100])
def test_what_is_no_id_finds_nothing(ident):
    with pytest.raises(Exception, match="It may have been deleted."):
        find(KeyPair.objects.all(), ident, "It may have been deleted.")


def test_links_lead_tenants_to_their_projects_and_admins_to_the_cloud():
    assert links.of("instance", ID, "demo") == f"/projects/demo/instances/{ID}"
    assert links.of("instance", ID) == ""
    assert links.of("host", ID, for_admins=True) == f"/cloud/hosts/{ID}"
    assert links.of("host", ID, "demo") == ""
    assert links.of("operation", ID, for_admins=True) == "/cloud/operations?outcome=all"
    assert links.of("no such type", ID, "demo", for_admins=True) == ""
