"""Launching: the form, its preview, its faults, and that it is sent once."""

import html
import json
import re

import pytest

from cloud.events.models import Event
from cloud.tenancy import new_projects
from compute import keypairs, logins
from compute.models import Instance, KeyPair
from compute.volumes import held_by
from network import rules
from network.services import networks, port_forwards, ports, security_groups, subnets
from storage.models import Volume
from storage.services import volumes
from tests import factories
from tests.cloud.dashboard.conftest import ALICE

pytestmark = pytest.mark.django_db(transaction=False)

HERE, PREVIEW = "/projects/demo/launch", "/projects/demo/launch/preview"


@pytest.fixture
def mia(page_of, member):
    return page_of(member)


def filled(world, **changes):
    return {
        "name": "amber-heron", "image": world.image.name, "flavor": world.flavor.name, "wanted_power": "on",
        "restart_policy": "on_crash", "form_key": "3e2c8c7e-9d4e-4bb4-9a55-0d3f3a3d5d0e", "without_login": "on",
        **changes,
    }  # fmt: skip


def test_a_launch_leads_to_the_new_instance(mia, world):
    answer = mia.post(
        HERE, filled(world, keypairs=["laptop"], labels="tier=front\nfast", user_data="#!/bin/sh\r\necho")
    )
    made = Instance.objects.get(name="amber-heron")
    assert (answer.status_code, answer["Location"]) == (303, f"/projects/demo/instances/{made.pk}")
    assert made.labels == {"tier": "front", "fast": ""}
    assert made.user_data == "#!/bin/sh\necho"
    assert [key["name"] for key in made.keypairs] == ["laptop"]
    assert b"is being launched" in mia.get(answer["Location"]).content
    assert Event.objects.filter(action="compute.instance.launch", subject_id=str(made.pk)).get().actor == "mia"


def test_a_form_sent_twice_launches_once(mia, world):
    first, second = mia.post(HERE, filled(world)), mia.post(HERE, filled(world))
    assert first["Location"] == second["Location"]
    assert Instance.objects.filter(name="amber-heron").count() == 1
    assert b"has not been done twice" in mia.get(second["Location"]).content


def test_the_same_form_filled_in_otherwise_is_another_launch(mia, world):
    mia.post(HERE, filled(world))
    mia.post(HERE, filled(world, name="brave-otter"))
    assert Instance.objects.filter(name__in=["amber-heron", "brave-otter"]).count() == 2


def test_every_fault_is_beside_its_field_and_nothing_is_lost(mia, world):
    answer = mia.post(
        HERE, filled(world, name="Not A Name", image="nonsense", keypairs=["nobodys"], user_data="# kept")
    )
    text = answer.content.decode()
    assert answer.status_code == 400
    for field in ("name", "image", "keypairs"):
        assert f'id="faults-{field}"' in text
    assert 'value="Not A Name"' in text
    assert "# kept" in text
    assert not Instance.objects.filter(project=world.project).exclude(pk=world.instance.pk).exists()


def test_a_name_that_is_taken_is_a_fault_of_the_name(mia, world):
    answer = mia.post(HERE, filled(world, name="web"))
    assert answer.status_code == 409
    assert re.search(r'id="faults-name".*taken', answer.content.decode(), re.DOTALL)


def test_more_than_the_quota_is_refused_with_who_can_fix_it(page_of, world):
    tight = factories.project("tight", limits={"instances": 0, "vcpus": 0, "memory_mib": 0})
    answer = page_of(factories.member(tight)).post("/projects/tight/launch", filled(world))
    assert answer.status_code == 403
    text = " ".join(answer.content.decode().split())
    assert "Instances: 1 more asked, 0 of 0 used" in text
    assert re.search(r"Memory: [\d.]+ [MG]iB more asked", text), "in the words and units of people"
    assert '<a href="/projects/tight/quota">ask for more</a>' in text
    assert b"An admin of the cloud can fix this" in answer.content


def test_the_image_of_another_project_is_not_found(mia, world):
    stranger = factories.image("secret", project=factories.project("elsewhere"))
    answer = mia.post(HERE, filled(world, image=stranger.name))
    assert answer.status_code == 400
    assert "secret" not in mia.get(HERE).content.decode()


def test_the_preview_says_where_what_and_how_much_and_keeps_nothing(mia, world):
    before = Event.objects.count()
    answer = mia.post(PREVIEW, filled(world), headers={"HX-Target": "preview"})
    text = answer.content.decode()
    assert answer.status_code == 200
    assert text.lstrip().startswith('<section id="preview"')
    assert "A host has room" in text
    assert "1 → " in text
    assert "node1" not in text
    assert "curl -X POST" in text
    assert Instance.objects.count() == 1
    assert Event.objects.count() == before


def test_an_admin_of_the_cloud_sees_the_host_in_the_preview(page_of, cloud_admin, world):
    answer = page_of(cloud_admin).post(PREVIEW, filled(world), headers={"HX-Target": "preview"})
    assert b"node1" in answer.content


def test_the_preview_of_what_fits_nowhere_says_why(mia, world):
    factories.flavor("huge", vcpus=1000)
    world.project.quota.limits["vcpus"] = None
    world.project.quota.save()
    text = mia.post(PREVIEW, filled(world, flavor="huge"), headers={"HX-Target": "preview"}).content.decode()
    assert "0 of 1 host fit: 1 lack vCPUs" in text
    assert "small would fit" in text


def test_the_call_to_copy_is_the_one_that_the_api_takes(mia, world, api, member):
    text = mia.post(PREVIEW, filled(world, labels="tier=it's"), headers={"HX-Target": "preview"}).content.decode()
    import html
    import shlex

    call = html.unescape(re.search(r"<pre>(curl.*?)</pre>", text, re.DOTALL)[1])  # type: ignore[index]
    words = shlex.split(call.replace("\\\n", " "))
    body = json.loads(words[words.index("-d") + 1])
    answer = api.as_(member).post("projects/demo/instances?dry_run=true", body)
    assert answer.status_code == 202
    assert answer.json()["labels"] == {"tier": "it's"}


def test_a_new_key_pair_is_made_with_the_instance_and_shown_once(mia, world):
    sent = filled(world, new_key="make", new_key_name="fresh")
    answer = mia.post(HERE, sent)
    assert answer.status_code == 200
    assert b"BEGIN OPENSSH PRIVATE KEY" in answer.content
    assert answer["Cache-Control"] == "no-store"
    made = Instance.objects.get(name="amber-heron")
    assert [key["name"] for key in made.keypairs] == ["fresh"]
    again = mia.post(HERE, sent)
    assert again["Location"] == f"/projects/demo/instances/{made.pk}"
    assert KeyPair.objects.filter(name="fresh").count() == 1


def test_a_key_name_that_is_taken_is_a_fault_of_the_key(mia, world):
    answer = mia.post(HERE, filled(world, new_key="make", new_key_name="laptop"))
    assert answer.status_code == 409
    assert b'id="faults-new_key_name"' in answer.content
    assert not Instance.objects.filter(name="amber-heron").exists()


def test_without_script_the_preview_comes_with_the_form(mia, world):
    text = mia.post(PREVIEW, filled(world, user_data="#!/bin/sh\n# kept")).content.decode()
    assert "A host has room" in text
    assert "# kept" in text


def test_it_begins_with_what_fits(mia, world):
    factories.image("alight", min_memory_mib=4096, files=[{"role": "disk", "size": 2}])
    factories.flavor("roomy", memory_mib=8192)
    own = {"project": world.project, "min_memory_mib": 4096}
    factories.image("lighter-and-never-boots", files=[{"role": "disk", "size": 1}], **own)
    text = mia.get(HERE).content.decode()
    assert re.search(r'value="alight" required checked', text)
    assert re.search(r'value="roomy" required checked', text)


def test_several_are_previewed_and_launched_together(mia, world):
    text = mia.post(PREVIEW, filled(world, count="3"), HTTP_HX_TARGET="preview").content.decode()
    assert "amber-heron-1 to amber-heron-3, all or none" in text
    assert "There is room for all" in text
    assert "&quot;count&quot;: 3" in text
    answer = mia.post(HERE, filled(world, count="3"))
    assert (answer.status_code, answer["Location"]) == (303, "/projects/demo/instances?q=amber-heron-")
    assert b"amber-heron-1 to amber-heron-3 are being launched" in mia.get(answer["Location"]).content
    assert Instance.objects.filter(name__startswith="amber-heron-").count() == 3


def test_a_count_that_is_none_is_a_fault_of_the_count(mia, world):
    answer = mia.post(HERE, filled(world, count="many"))
    assert answer.status_code == 400
    assert 'id="faults-count"' in answer.content.decode()


@pytest.fixture
def networked(world):
    """The project as new ones are: with a network, a router and a security group, and one network more."""
    new_projects.furnish(world.project, ALICE)
    back = networks.create(project=world.project, actor=ALICE, name="back")
    subnets.create(network=back, actor=ALICE, name="back", cidr="172.16.0.0/24")
    return world


def test_nics_have_networks_addresses_and_existing_ports_in_their_order(mia, networked):
    mine = ports.create(network=networked.project.networks.get(name="back"), actor=ALICE, name="mine")
    sent = filled(
        networked, nic=["network/back", "port/mine", "network/default"], nic_address=["172.16.0.77", "", ""],
        nic_gateway=["", "", "on"], security_groups=["default"],
    )  # fmt: skip
    mia.post(HERE, sent)
    made = Instance.objects.get(name="amber-heron")
    held = ports.held_by("instance", made.pk)
    assert [port.network.name for port in held] == ["back", "back", "default"]
    assert held[0].addresses.get().address == "172.16.0.77"
    assert held[1].pk == mine.pk
    assert [port.gateway for port in held] == [False, False, True]


def test_opening_ssh_makes_a_group_once_and_says_whom_it_lets_in(mia, networked):
    for name in ("amber-heron", "brave-otter"):
        sent = filled(networked, name=name, nic="network/default", security_groups=["default"], open_ssh="on")
        preview = mia.post(PREVIEW, sent, headers={"HX-Target": "preview"}).content.decode()
        assert "SSH (TCP 22) from anywhere" in preview
        mia.post(HERE, sent)
        [port] = ports.held_by("instance", Instance.objects.get(name=name).pk)
        assert sorted(group.name for group in port.security_groups.all()) == ["default", "ssh"]
    assert networked.project.security_groups.count() == 2


def test_a_group_that_opens_more_than_ssh_is_not_taken_for_it(mia, networked):
    group = security_groups.create(project=networked.project, actor=ALICE, name="ssh", rules=rules.SSH_IN)
    web = {"direction": "ingress", "protocol": 6, "port_min": 80}
    security_groups.add_rule(group=group, actor=ALICE, rule=web)
    mia.post(HERE, filled(networked, nic="network/default", security_groups=["default"], open_ssh="on"))
    [port] = ports.held_by("instance", Instance.objects.get(name="amber-heron").pk)
    assert sorted(one.name for one in port.security_groups.all()) == ["default", "ssh-2"]


def test_the_preview_says_the_address_and_faults_are_told(mia, networked):
    sent = filled(networked, nic="network/back", nic_address="172.16.0.9", security_groups=["default"])
    assert "172.16.0.9" in mia.post(PREVIEW, sent, headers={"HX-Target": "preview"}).content.decode()
    answer = mia.post(HERE, sent | {"nic_address": "10.9.9.9"})
    assert answer.status_code == 400
    text = answer.content.decode()
    assert "10.9.9.9 is no usable address of 172.16.0.0/24" in text
    assert 'value="10.9.9.9"' in text


def test_ticking_no_group_lets_nothing_in(mia, networked):
    mia.post(HERE, filled(networked, nic="network/default"))
    [port] = ports.held_by("instance", Instance.objects.get(name="amber-heron").pk)
    assert not port.security_groups.exists()


def test_the_instance_shows_its_nics_and_the_list_its_addresses(mia, networked):
    made = networked.launch("db")
    [port] = ports.held_by("instance", made.pk)
    forward = port_forwards.create(port=port, actor=ALICE, target_port=22)
    text = mia.get(f"/projects/demo/instances/{made.pk}").content.decode()
    address = port.addresses.get().address
    for words in (port.mac, address, port.name, f"127.0.0.1:{forward.listen_port}"):
        assert words in text
    port.host = made.host
    port.save()
    assert address in mia.get("/projects/demo/instances").content.decode()


def test_a_launch_that_nobody_could_log_in_to_asks_for_a_second_click(mia, world):
    sent = filled(world)
    del sent["without_login"]
    assert "Nobody can log in" in mia.post(PREVIEW, sent, headers={"HX-Target": "preview"}).content.decode()
    answer = mia.post(HERE, sent)
    assert answer.status_code == 400
    assert b'name="without_login"' in answer.content
    assert not Instance.objects.filter(name="amber-heron").exists()
    assert mia.post(HERE, sent | {"without_login": "on"}).status_code == 303


def test_user_data_that_lets_somebody_in_needs_no_second_click(mia, world):
    sent = filled(world, user_data="#cloud-config\nssh_authorized_keys: [ssh-ed25519 AAAA]\n")
    del sent["without_login"]
    assert mia.post(HERE, sent).status_code == 303


def test_a_generated_password_is_shown_once_and_only_its_hash_is_kept(mia, world):
    sent = filled(world, with_password="on")
    answer = mia.post(HERE, sent)
    assert answer["Cache-Control"] == "no-store"
    password = re.search(r"[a-z2-7]{5}(-[a-z2-7]{5}){3}", answer.content.decode())[0]  # type: ignore[index]
    made = Instance.objects.get(name="amber-heron")
    assert made.password_hash.startswith("$6$")
    assert logins.matches(password, made.password_hash)
    assert password in mia.post(HERE, sent).content.decode()  # sent twice, it is not lost
    assert Instance.objects.filter(name="amber-heron").count() == 1
    assert password not in mia.get(f"/projects/demo/instances/{made.pk}").content.decode()
    for event in Event.objects.all():
        assert password not in json.dumps([event.before, event.after])
        assert made.password_hash not in json.dumps([event.before, event.after])


def test_ones_own_password_is_hashed_and_never_echoed(mia, world):
    sent = filled(world, with_password="on", password="correct horse")
    assert "correct horse" not in mia.post(PREVIEW, sent, headers={"HX-Target": "preview"}).content.decode()
    assert "correct horse" not in mia.post(HERE, sent | {"name": "-"}).content.decode()
    assert mia.post(HERE, sent).status_code == 303
    assert logins.matches("correct horse", Instance.objects.get(name="amber-heron").password_hash)
    answer = mia.post(HERE, sent | {"name": "brave-otter", "password": "short"})
    assert b'id="faults-password"' in answer.content


def test_a_key_can_be_pasted(mia, world):
    key = keypairs.create(project=world.project, actor=ALICE, name="other")[0].public_key
    sent = filled(world, new_key="paste", new_key_name="mine", new_key_public_key=key)
    assert mia.post(HERE, sent).status_code == 303
    assert [one["name"] for one in Instance.objects.get(name="amber-heron").keypairs] == ["mine"]
    answer = mia.post(HERE, sent | {"name": "brave-otter", "new_key_name": "worse", "new_key_public_key": "ssh-rsa x"})
    assert re.search(r'id="faults-new_key_public_key"[^>]*><span class="fault"', answer.content.decode())
    answer = mia.post(HERE, sent | {"name": "clear-fox", "new_key_name": "none", "new_key_public_key": " "})
    assert "Give the public key, such as" in answer.content.decode()


def test_all_of_ones_own_keys_are_ticked_and_a_password_is_until_one_does_without(mia, world):
    keypairs.create(project=world.project, actor=ALICE, name="alices")
    text = mia.get(HERE).content.decode()
    assert re.search(r'value="laptop" checked', text)
    assert not re.search(r'value="alices" checked', text)
    assert re.search(r'name="with_password" checked', text), "it opens the console, which a key does not"
    assert re.search(r'id="id-new_key_name"[^>]* value="laptop-2"', text)
    assert mia.post(HERE, filled(world, keypairs=["laptop"])).status_code == 303
    assert not re.search(r'name="with_password" checked', mia.get(HERE).content.decode())
    KeyPair.objects.all().delete()
    assert re.search(r'name="with_password" checked', mia.get(HERE).content.decode())


def test_volumes_and_what_it_boots_from_are_chosen_on_the_form(mia, world):
    world.host.capabilities["volumes"] = {"layers": True}
    world.host.save(update_fields=["capabilities"])
    disk = {"role": "disk", "sha256": "d" * 64, "size": 1, "format": "qcow2"}
    image = factories.image("disk", files=[disk])
    for name, of in (("data", None), ("root", image)):
        volumes.create(project=world.project, actor=ALICE, name=name, size_gib=2, image=of)
    page = mia.get(HERE).content.decode()
    assert "data (2 GiB)" in page
    fast = factories.volume_type(iops=5000)
    assert "5000 operations a second" in mia.get(HERE).content.decode()
    chosen = {"disk": ["new", "volume/data", ""], "disk_size": ["3", "", ""], "boot_from": "new-kept", "boot_size": "5"}
    chosen["volume_type"] = str(fast.pk)
    shown = mia.post(PREVIEW, filled(world, image="disk", **chosen)).content.decode()
    assert "amber-heron-root, 5 GiB, boots from it" in shown
    assert '"delete_with_instance": true' in html.unescape(shown)
    mia.post(HERE, filled(world, image="disk", **chosen))
    made = Instance.objects.get(name="amber-heron")
    held = {one.slot: (one.volume.name, one.delete_with_holder) for one in held_by(made)}
    assert {one.volume.type for one in held_by(made) if one.slot in (0, 1)} == {fast}
    assert held == {0: ("amber-heron-root", False), 1: ("amber-heron-volume-1", True), 2: ("data", False)}
    mia.post(HERE, filled(world, name="brave-otter", boot_from="volume/root"))
    assert Instance.objects.get(name="brave-otter").image == image
    asked = mia.get(f"/projects/demo/instances/{made.pk}/delete").content.decode()
    assert "amber-heron-volume-1 (3 GiB) goes along." in asked
    assert "The volume data (2 GiB) stays." in " ".join(asked.split())
    Volume.objects.filter(name="amber-heron-volume-1").update(protected=True)
    asked = mia.get(f"/projects/demo/instances/{made.pk}/delete").content.decode()
    assert "amber-heron-volume-1 (3 GiB) stays, as it or a snapshot of it is protected" in " ".join(asked.split())


def test_a_fault_of_a_volume_is_shown_beside_the_volumes(mia, world):
    shown = mia.post(HERE, filled(world, disk=["new"], disk_size=["many"])).content.decode()
    [beside] = re.findall(r'<fieldset class="field" id="id-volumes">.*?</fieldset>', shown, re.DOTALL)
    assert "A valid integer is required." in beside
