"""Overview, members, key pairs, tokens, password, activity."""

import re

import pytest

from cloud.tenancy.models import Membership, Role, Token
from compute.models import KeyPair, Machine
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def mia(page_of, member):
    return page_of(member)


@pytest.fixture
def ada(page_of, project_admin):
    return page_of(project_admin)


def test_an_empty_project_teaches_the_first_step(mia, project):
    factories.image()
    assert b"Launch the first instance" in mia.get("/projects/demo").content


def test_the_overview_says_what_runs_and_what_is_wrong(mia, world):
    world.settle(world.launch("sick"), "broken")
    Machine.objects.filter(instance__name="sick").update(seen_problem="No space left on device")
    text = mia.get("/projects/demo").content.decode()
    assert "No space left on device" in text
    assert re.search(r"Needs attention</span><span class=\"figure\">1<", text)
    assert 'aria-valuetext="2 of 20"' in text


def test_what_costs_something_leads_to_its_page(mia, world):
    row = mia.get("/projects/demo/costs").content.decode().partition("<h2>By resource</h2>")[2]
    assert f'<a href="/projects/demo/instances/{world.instance.pk}">web</a>' in row


def test_members_are_added_changed_and_removed(ada, project):
    factories.user("nia")
    assert ada.post("/projects/demo/members", {"user": "nia", "role": "viewer"}).status_code == 303
    nia = Membership.objects.get(user__username="nia")
    assert ada.post(f"/projects/demo/members/{nia.user_id}", {"role": "member"}).status_code == 303
    nia.refresh_from_db()
    assert nia.role == "member"
    assert ada.post(f"/projects/demo/members/{nia.user_id}", {"verb": "remove"}).status_code == 303
    assert not Membership.objects.filter(user__username="nia").exists()


def test_the_last_admin_cannot_be_removed(ada, project, project_admin):
    answer = ada.post(f"/projects/demo/members/{project_admin.pk}", {"verb": "remove"})
    assert answer.status_code == 409
    assert b"is the only admin" in answer.content


def test_a_member_who_does_not_exist_is_a_fault_of_the_user(ada, project):
    answer = ada.post("/projects/demo/members", {"user": "nobody", "role": "viewer"})
    assert answer.status_code == 400
    assert b'id="faults-user"' in answer.content


def test_images_are_shown_with_what_they_need_and_are_launched_from(mia, world):
    factories.image("foreign", project=factories.project())
    file = {"role": "disk", "sha256": "ab" * 32, "size": 5 << 20, "format": "qcow2"}
    own = factories.image("own", project=world.project, files=[file], description="Ours <only>", min_memory_mib=2048)
    text = mia.get("/projects/demo/images").content.decode()
    assert "foreign" not in text
    assert "Ours &lt;only&gt;" in text
    assert "2 GiB, 1 GiB" in text
    assert "5.0\xa0MB" in text
    launch = re.search(r'href="(/projects/demo/launch\?image=own)"', text)
    assert b'value="own" required checked' in mia.get(launch[1]).content  # type: ignore[index]
    text = mia.get(f"/projects/demo/images/{own.pk}").content.decode()
    assert f'data-copy="{"ab" * 32}"' in text
    assert "None was launched from it." in text
    assert ">web<" in mia.get(f"/projects/demo/images/{world.image.pk}").content.decode()


def test_a_key_pair_made_here_is_shown_once(mia, project):
    answer = mia.post("/projects/demo/keypairs", {"name": "fresh", "how": "make"})
    assert b"BEGIN OPENSSH PRIVATE KEY" in answer.content
    assert b'download="fresh.pem"' in answer.content
    assert b"BEGIN OPENSSH" not in mia.get("/projects/demo/keypairs").content


def test_a_pasted_key_that_is_none_is_a_fault_of_the_key(mia, project):
    sent = {"name": "mine", "how": "paste", "public_key": "-----BEGIN RSA PRIVATE KEY-----"}
    answer = mia.post("/projects/demo/keypairs", sent)
    assert answer.status_code == 400
    assert re.search(r'id="faults-public_key".*Keep it to yourself', answer.content.decode(), re.DOTALL)


def test_a_key_pair_is_deleted(mia, world):
    assert mia.post(f"/projects/demo/keypairs/{world.keypair.pk}/delete").status_code == 303
    assert not KeyPair.objects.exists()


def test_a_key_pair_is_renamed_and_labelled_and_that_is_taken_back(mia, world):
    path = f"/projects/demo/keypairs/{world.keypair.pk}/change"
    assert mia.post(path, {"name": "desk", "labels": "owner=mia"}).status_code == 303
    page = mia.get("/projects/demo/keypairs").content.decode()
    assert "desk" in page
    assert "owner=mia" in page
    assert f'action="{path}"' in page  # the toast takes it back
    assert mia.post(path, {"name": "laptop", "labels": ""}).status_code == 303
    world.keypair.refresh_from_db()
    assert (world.keypair.name, world.keypair.labels) == ("laptop", {})


def test_a_project_is_renamed_by_its_admin_and_found_under_its_new_name(ada, mia, project):
    sent = {"name": "shop", "description": "Sells <b>things</b>", "labels": "team=web"}
    answer = ada.post("/projects/demo/settings", sent)
    assert (answer.status_code, answer["Location"]) == (303, "/projects/shop/settings")
    assert b"Sells &lt;b&gt;things" in ada.get("/projects/shop").content
    assert b"/projects/shop/settings" in ada.get("/projects/shop").content
    assert b"/projects/shop/settings" not in mia.get("/projects/shop").content
    assert ada.get("/projects/demo").status_code == 404
    before = {"name": "demo", "description": "", "labels": ""}
    assert ada.post(f"/projects/{project.pk}/settings", before)["Location"] == "/projects/demo/settings"


def test_a_name_that_another_project_has_is_a_fault_of_the_name(ada, project):
    factories.project("shop")
    answer = ada.post("/projects/demo/settings", {"name": "shop", "description": "mine", "labels": ""})
    assert answer.status_code == 409
    assert b'id="faults-name"' in answer.content
    assert b">\nmine</textarea>" in answer.content


def test_ones_profile_is_changed(mia, member):
    assert mia.post("/account/profile", {"full_name": "Mia M.", "email": "mia"}).status_code == 400
    assert mia.post("/account/profile", {"full_name": "Mia M.", "email": "mia@example.org"}).status_code == 303
    member.refresh_from_db()
    assert (member.full_name, member.email) == ("Mia M.", "mia@example.org")


def test_a_token_is_shown_once_and_revoked(mia, member):
    answer = mia.post("/account/tokens", {"name": "terraform", "days": "30", "read_only": "on", "project": "demo"})
    secret = re.search(r"<pre>(pileus-[^<]+)</pre>", answer.content.decode())[1]  # type: ignore[index]
    token = Token.objects.get(user=member)
    assert (token.read_only, token.project.name) == (True, "demo")
    assert secret not in mia.get("/account/tokens").content.decode()
    assert mia.post(f"/account/tokens/{token.pk}/revoke").status_code == 303
    assert not Token.objects.exists()


def test_the_token_of_somebody_else_is_not_found(mia, project_admin):
    factories.token(project_admin)
    token = Token.objects.get(user=project_admin)
    assert mia.post(f"/account/tokens/{token.pk}/revoke").status_code == 404
    assert Token.objects.filter(pk=token.pk).exists()


def test_the_password_is_changed_with_the_present_one_only(mia, member):
    new = "a long and strange sentence"
    refused = mia.post("/account/password", {"current_password": "nonsense", "password": new})
    assert refused.status_code == 400
    assert b'id="faults-current_password"' in refused.content
    assert mia.post("/account/password", {"current_password": "miamia", "password": new}).status_code == 303
    assert mia.get("/account/password").status_code == 200
    member.refresh_from_db()
    assert member.check_password(new)


def test_activity_is_filtered_by_whom_and_what(mia, world):
    mia.post("/projects/demo/keypairs", {"name": "brand-new"})
    assert b"brand-new" in mia.get("/projects/demo/activity?actor=mia").content
    assert b"brand-new" not in mia.get("/projects/demo/activity?actor=alice").content
    assert b"Nothing fits this filter" in mia.get("/projects/demo/activity?actor=nobody").content


def test_the_palette_finds_only_what_one_may_see(mia, page_of, world, other_tenant):
    assert b">web<" in mia.get("/palette?q=web").content
    assert b">web<" not in page_of(other_tenant).get("/palette?q=web").content
    assert b"node1" not in mia.get("/palette?q=node").content


def test_the_palette_does_what_is_possible_now(mia, page_of, world, other_tenant):
    offered = mia.get("/palette?q=stop we").content.decode()
    assert "Stop web" in offered
    assert f"/projects/demo/instances/{world.instance.pk}/stop" in offered
    for asked in ("reset we", "reset password we", "reset-password we"):
        assert f"/instances/{world.instance.pk}/reset-password" in mia.get("/palette", {"q": asked}).content.decode()
    assert "Nothing is called" in mia.get("/palette?q=start we").content.decode()  # it runs
    assert "Stop web" not in page_of(other_tenant).get("/palette?q=stop we").content.decode()
    viewer = factories.member(world.project, Role.VIEWER, "vic")
    assert "Stop web" not in page_of(viewer).get("/palette?q=stop we").content.decode()
    signing_out = mia.get("/palette?q=sign out").content.decode()
    assert 'action="/sign-out"' in signing_out
    dark = mia.get("/palette?q=dark", headers={"HX-Current-URL": "http://testserver/projects/demo/quota?x=1"})
    assert 'name="next" value="/projects/demo/quota?x=1"' in dark.content.decode()
