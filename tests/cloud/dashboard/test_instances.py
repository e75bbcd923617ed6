"""The list of instances, the page of one, and its verbs."""

import html
import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from cloud.hosts.models import Host
from cloud.operations.models import Operation
from cloud.tenancy import new_projects
from compute import samples
from compute.models import Instance, Machine
from compute.verbs import VERBS
from network.models import FloatingIP, PortForward
from network.services import address_pools, ports
from tests.cloud.dashboard.conftest import ALICE

pytestmark = pytest.mark.django_db

LIST = "/projects/demo/instances"


@pytest.fixture
def mia(page_of, member):
    return page_of(member)


def names(answer) -> list[str]:
    return re.findall(
        r'<th scope="row"><a href="/projects/demo/instances/[0-9a-f-]+">([^<]+)</a>', answer.content.decode()
    )


def test_the_list_is_filtered_and_sorted_by_its_url(mia, world):
    world.launch("api")
    world.settle(world.launch("batch"), "broken")
    assert names(mia.get(LIST)) == ["batch", "api", "web"]
    assert names(mia.get(f"{LIST}?sort=name")) == ["api", "batch", "web"]
    assert names(mia.get(f"{LIST}?q=AP")) == ["api"]
    assert names(mia.get(f"{LIST}?status=running")) == ["web"]
    assert names(mia.get(f"{LIST}?status=trouble")) == ["batch"]
    assert names(mia.get(f"{LIST}?q={world.instance.pk}")) == ["web"]
    assert "No instance fits “zzz”" in mia.get(f"{LIST}?q=zzz").content.decode()


def test_a_long_list_has_pages(mia, world):
    for number in range(52):
        Instance.objects.create(
            project=world.project, name=f"vm{number}", flavor=world.flavor, vcpus=1, memory_mib=64, disk_gib=1,
            image=world.image, created_by="mia",
        )  # fmt: skip
    first = mia.get(f"{LIST}?sort=name")
    following = re.search(r'href="(\?[^"]+)" rel="next"', first.content.decode())[1].replace("&amp;", "&")  # type: ignore[index]
    assert len(names(first)) == 50
    last = mia.get(LIST + following)
    assert len(names(last)) == 3
    assert "51–53 of 53" in last.content.decode()
    before = re.search(r'href="(\?[^"]+)" rel="prev"', last.content.decode())[1].replace("&amp;", "&")  # type: ignore[index]
    assert names(mia.get(LIST + before)) == names(first)
    assert names(mia.get(f"{LIST}?sort=name&page=99")) == names(last)
    everything = names(first) + names(last)
    assert names(mia.get(f"{LIST}?sort=-name")) == sorted(everything, reverse=True)[:50]


@pytest.mark.parametrize(
    "query",
    [
        "q=%00",
        "status=%00",
        "flavor=%00",
        "sort=nonsense",
        "status=nonsense",
        "q=" + "x" * 5000,
        "page=0",
        "page=99",
        "page=9999999999",
        "page=-1",
        "page=%C2%B2",
        "label=",
        "label=%00:",
        "label=x",
        "q=%3D",
        "q=a%3D%00",
    ],
)
def test_odd_queries_do_no_harm(mia, world, query):
    assert mia.get(f"{LIST}?{query}").status_code == 200


def test_what_a_guest_agent_is_good_for_is_said_where_it_matters(mia, world):
    page = f"{LIST}/{world.instance.pk}"

    def says(place, *words):
        text = " ".join(mia.get(f"{page}{place}").content.decode().split())
        return [word in text for word in words]

    assert says("", "Guest agent", "Stop and start it once") == [True, True], "an older release started it"
    Machine.objects.update(seen_facts={"agent_channel": True})
    assert says("", "Guest agent", "none answers") == [True, True]
    assert says("/reset-password", "sets it at once", 'name="reboot"') == [False, True]
    assert says("/snapshot", "as after a power cut") == [True]
    known = {"version": "7.2.0", "can": ["freeze", "password"]}
    Machine.objects.update(seen_facts={"agent_channel": True, "guest_agent": known})
    assert says("", "none answers", "version 7.2.0") == [False, True]
    assert says("/reset-password", "sets it at once", 'name="reboot"') == [True, False]
    assert says("/snapshot", "as after a power cut", "holds the file systems still") == [False, True]
    for odd in ({"version": {"a": []}, "can": 5}, {"can": [{}, "rm"]}, {}):
        Machine.objects.update(seen_facts={"guest_agent": odd})
        assert says("", "Guest agent", "answers") == [True, True]
        assert says("/snapshot", "as after a power cut") == [True]


def test_counts_follow_the_filter_and_labels_narrow(mia, world):
    world.launch("api", labels={"tier": "back", "env": "a:b"})
    world.settle(world.launch("front", labels={"tier": "front"}))
    text = mia.get(f"{LIST}?label=tier:front").content.decode()
    assert names(mia.get(f"{LIST}?label=tier:front")) == ["front"]
    assert 'All <span class="count">1</span>' in text
    assert 'Running <span class="count">1</span>' in text
    assert "Launching" not in text
    assert names(mia.get(f"{LIST}?label=tier:back&label=env:a%3Ab")) == ["api"]
    assert names(mia.get(f"{LIST}?q=tier%3Dback")) == ["api"]
    assert names(mia.get(f"{LIST}?label=tier:front&status=launching")) == []


def test_only_admins_of_the_cloud_narrow_by_host(mia, page_of, cloud_admin, world):
    assert names(mia.get(f"{LIST}?host=elsewhere")) == ["web"]
    assert names(page_of(cloud_admin).get(f"{LIST}?host=elsewhere")) == []
    assert names(page_of(cloud_admin).get(f"{LIST}?host=node1")) == ["web"]
    assert 'aria-label="Host"' not in mia.get(f"{LIST}?host=node1").content.decode()
    assert "sort=host" not in mia.get(f"{LIST}?sort=host").content.decode().partition("<table")[2]


def test_what_is_equal_keeps_its_place_from_page_to_page(mia, world):
    for number in range(60):
        Instance.objects.create(
            project=world.project, name=f"vm{number}", flavor=world.flavor, vcpus=1, memory_mib=64, disk_gib=1,
            image=world.image, created_by="mia",
        )  # fmt: skip
    for sort in ("image", "-image", "flavor", "host", "-host", "owner", "status", "-status"):
        found = names(mia.get(f"{LIST}?sort={sort}")) + names(mia.get(f"{LIST}?sort={sort}&page=2"))
        assert len(set(found)) == 61, sort


def test_a_part_is_sent_alone_when_it_alone_is_asked_for(mia, world):
    text = mia.get(LIST, headers={"HX-Target": "list"}).content.decode().lstrip()
    assert text.startswith('<div class="stack tight" id="list"')
    assert "<html" not in text


def test_the_page_of_one_shows_status_facts_and_console(mia, world):
    text = mia.get(f"{LIST}/{world.instance.pk}").content.decode()
    for words in ("running", "READY web 2.31", "tiny", "small", "alice"):
        assert words in text
    assert "node1" not in text


def test_a_live_operation_shows_its_steps_and_can_be_cancelled(mia, world):
    instance = world.launch("slow")
    operation = Operation.objects.get(subject_id=instance.pk)
    text = mia.get(f"{LIST}/{instance.pk}").content.decode()
    assert "Launching slow" in text
    assert "Start the machine" in text
    answer = mia.post(f"/projects/demo/operations/{operation.pk}/cancel")
    assert answer["Location"] == f"{LIST}/{instance.pk}"
    operation.refresh_from_db()
    assert operation.cancel_requested_by == "mia"


def test_an_operation_of_another_project_is_not_found(page_of, world, other_tenant):
    operation = Operation.objects.get(subject_id=world.launch("slow").pk)
    answer = page_of(other_tenant).post(f"/projects/elsewhere/operations/{operation.pk}/cancel")
    assert answer.status_code == 404


def test_stop_asks_how_and_does_it(mia, world):
    here = f"{LIST}/{world.instance.pk}/stop"
    assert b"What its guest holds in memory is lost" in mia.get(here).content
    answer = mia.post(here, {"how": "ask", "grace_seconds": "5"})
    assert answer["Location"] == f"{LIST}/{world.instance.pk}"
    world.instance.refresh_from_db()
    stop = Operation.objects.get(subject_id=world.instance.pk, finished_at=None)
    assert (world.instance.wanted_power, stop.parameters["grace_seconds"]) == ("stopped", 5)


def test_a_bad_grace_is_a_fault_of_the_grace(mia, world):
    answer = mia.post(f"{LIST}/{world.instance.pk}/stop", {"how": "ask", "grace_seconds": "soon"})
    assert answer.status_code == 400
    assert b'id="faults-grace_seconds"' in answer.content


def test_reboot_of_what_is_stopped_is_refused_in_words(mia, world):
    world.settle(world.instance, "stopped")
    answer = mia.post(f"{LIST}/{world.instance.pk}/reboot", {"how": "hard"})
    assert answer.status_code == 409
    assert b"Start it instead" in answer.content


def test_what_runs_can_be_suspended_and_resumed(mia, world):
    here = f"{LIST}/{world.instance.pk}"
    assert b"its memory on its host" in mia.get(f"{here}/suspend").content
    assert mia.post(f"{here}/suspend")["Location"] == here
    text = mia.get(here).content.decode()
    assert "Suspending web" in text
    assert "Write its memory down" in text
    world.settle(world.instance, "suspended")
    text = mia.get(here).content.decode()
    assert f'action="{here}/start"' in text  # which resumes it
    assert mia.post(f"{here}/stop", {"how": "ask", "grace_seconds": "5"}).status_code == 409
    assert mia.post(f"{here}/resume")["Location"] == here


def test_clones_are_made_from_its_page(mia, world):
    here = f"{LIST}/{world.instance.pk}/clone"
    assert b"each as somebody else" in mia.get(here).content
    assert mia.post(here, {"name": "web", "count": "1"}).status_code == 409
    assert b'id="faults-count"' in mia.post(here, {"name": "copy", "count": "0"}).content
    assert mia.post(here, {"name": "copy", "count": "2"})["Location"] == LIST
    assert set(world.instance.clones.values_list("name", flat=True)) == {"copy-1", "copy-2"}


def test_what_a_hypervisor_cannot_do_is_said_by_its_button(mia, world):
    Host.objects.update(capabilities={"hypervisors": {"qemu": {"verbs": ["pause"]}}})
    text = mia.get(f"{LIST}/{world.instance.pk}").content.decode()
    assert "qemu on its host cannot suspend machines." in text
    assert mia.post(f"{LIST}/{world.instance.pk}/suspend").status_code == 409


def test_delete_says_what_becomes_of_it_then_leads_to_the_list_and_is_undone(mia, world):
    here = f"{LIST}/{world.instance.pk}/delete"
    assert b"everything on its root disk (1 GiB)" in mia.get(here).content
    assert mia.post(here)["Location"] == LIST
    listed = mia.get(LIST).content.decode()
    assert f"/instances/{world.instance.pk}" not in listed
    undo = f"/projects/demo/trash/instance/{world.instance.pk}/restore"
    assert f'action="{undo}"' in listed
    assert undo in mia.get("/projects/demo/trash").content.decode()
    assert mia.post(undo).status_code == 303
    assert f"/instances/{world.instance.pk}" in mia.get(LIST).content.decode()
    assert "The trash is empty" in mia.get("/projects/demo/trash").content.decode()


def test_what_comes_back_to_a_name_that_is_taken_gets_another(mia, world):
    mia.post(f"{LIST}/{world.instance.pk}/delete")
    world.launch("web")
    mia.post(f"/projects/demo/trash/instance/{world.instance.pk}/restore")
    assert "web is back as web-2: its old name is taken by now." in mia.get(LIST).content.decode()


def test_it_may_be_deleted_for_good_at_once_from_the_dialog_or_from_the_trash(mia, world):
    mia.post(f"{LIST}/{world.instance.pk}/delete", {"purge": "on"})
    assert Operation.objects.filter(subject_id=world.instance.pk, kind="compute.delete").exists()
    other = world.launch("other")
    world.settle(other, "running")
    mia.post(f"{LIST}/{other.pk}/delete")
    assert mia.post(f"/projects/demo/trash/instance/{other.pk}/purge").status_code == 303
    assert '<span class="pill busy">deleting</span>' in mia.get("/projects/demo/trash").content.decode()
    assert mia.post(f"/projects/demo/trash/keypair/{other.pk}/purge").status_code == 404


def test_delete_of_a_busy_instance_is_never_refused(mia, world):
    instance = world.launch("slow")
    assert mia.post(f"{LIST}/{instance.pk}/delete").status_code == 303


def test_a_disabled_button_says_why(mia, page_of, world, viewer):
    text = mia.get(f"{LIST}/{world.instance.pk}").content.decode()
    assert re.search(r'aria-disabled="true"[^>]*>.*?Start.*?It is running already', text, re.DOTALL)
    text = page_of(viewer).get(f"{LIST}/{world.instance.pk}").content.decode()
    assert text.count("As a viewer you may look only") == len(VERBS)


def test_name_and_labels_can_be_changed(mia, world):
    here = f"{LIST}/{world.instance.pk}/change"
    answer = mia.post(here, {"name": "front", "labels": "tier=front", "restart_policy": "never"})
    assert answer.status_code == 303
    world.instance.refresh_from_db()
    found = (world.instance.name, world.instance.labels, world.instance.restart_policy)
    assert found == ("front", {"tier": "front"}, "never")


def test_a_screen_is_not_offered_where_the_hypervisor_gives_none(mia, world):
    here = f"/projects/demo/instances/{world.instance.pk}"
    offered = ">Screen</a>"
    for page in ("console", "log"):
        assert "gives its machines no screen" not in mia.get(f"{here}/{page}").text
    hypervisors = {world.instance.hypervisor: {"graphics": False}}
    Host.objects.update(capabilities={"hypervisors": hypervisors})
    for page in ("console", "log"):
        shown = mia.get(f"{here}/{page}").text
        assert f'aria-disabled="true" title="{world.instance.hypervisor} gives its machines no screen."' in shown
        assert offered in shown


def test_a_screen_is_not_offered_where_the_guest_draws_nothing(mia, world):
    here = f"/projects/demo/instances/{world.instance.pk}/console"
    for words, offered in (("console=ttyS0 quiet", False), ("console=ttyS0 console=tty0", True), ("", True)):
        Instance.objects.filter(pk=world.instance.pk).update(kernel_command_line=words)
        assert ("draws nothing: its console is the serial port" in mia.get(here).text) != offered


def test_the_console_log_can_be_downloaded(mia, world):
    answer = mia.get(f"{LIST}/{world.instance.pk}/log?download")
    assert answer["Content-Disposition"] == 'attachment; filename="web-console.log"'
    assert answer.content == b"Linux version 6.1\nREADY web 2.31\n"


def test_what_a_guest_writes_stays_text(mia, world):
    world.instance.console_log.content = b"\x1b[31m<script>alert(1)</script>\x1b[0m \x07\n"
    world.instance.console_log.save()
    text = mia.get(f"{LIST}/{world.instance.pk}").content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; " in text
    assert "\x1b" not in text


def test_placement_names_hosts_to_admins_of_the_cloud_only(mia, page_of, world, cloud_admin):
    here = f"{LIST}/{world.instance.pk}/placement"
    assert b"node1" not in mia.get(here).content
    assert b"node1" in page_of(cloud_admin).get(here).content


def test_an_instance_of_another_project_is_not_found(page_of, world, other_tenant):
    for path in ("", "/console", "/log", "/placement", "/change", "/delete"):
        answer = page_of(other_tenant).get(f"/projects/elsewhere/instances/{world.instance.pk}{path}")
        assert answer.status_code == 404


def test_user_data_is_not_for_viewers(mia, page_of, world, viewer):
    world.instance.user_data = "#!/bin/sh\n# hush"
    world.instance.save()
    assert b"hush" in mia.get(f"{LIST}/{world.instance.pk}").content
    assert b"hush" not in page_of(viewer).get(f"{LIST}/{world.instance.pk}").content


def test_text_of_tenants_is_never_markup(mia, world):
    payload = '"><img src=x onerror=alert(1)>'
    Instance.objects.filter(pk=world.instance.pk).update(
        labels={payload: payload}, created_by=payload, user_data=payload
    )
    Machine.objects.update(seen_problem=payload, seen="broken")
    for path in (LIST, f"{LIST}/{world.instance.pk}", "/projects/demo"):
        text = mia.get(path).content.decode()
        assert "<img" not in text


def test_a_verb_for_what_is_selected_asks_does_it_and_tells_of_each(mia, world):
    other = world.settle(world.launch("idle"), "stopped")
    here = f"{LIST}/selected"
    query = f"verb=stop&item={world.instance.pk}&item={other.pk}&to={LIST}%3Fsort%3Dname"
    text = mia.get(f"{here}?{query}").content.decode()
    assert "Stop 2 instances?" in text
    assert "It is stopped already." in text
    assert "&quot;instances&quot;: [" in text

    form = {"verb": "stop", "item": [world.instance.pk, other.pk], "grace_seconds": "5", "to": f"{LIST}?sort=name"}
    answer = mia.post(here, {**form, "form_key": "3e2c8c7e-9d4e-4bb4-9a55-0d3f3a3d5d0e"})
    assert (answer.status_code, answer["Location"]) == (303, f"{LIST}?sort=name")
    world.instance.refresh_from_db()
    stop = Operation.objects.get(subject_id=world.instance.pk, finished_at=None)
    assert (world.instance.wanted_power, stop.parameters["grace_seconds"]) == ("stopped", 5)
    text = mia.get(answer["Location"]).content.decode()
    assert "Stop: 2 begun" in text
    for instance in (world.instance, other):
        world.settle(instance, "stopped")
    assert "Stop: 2 done" in mia.get(answer["Location"]).content.decode()
    assert "Stop: 2" not in mia.get(answer["Location"]).content.decode()


def test_what_is_refused_says_why_in_the_list(mia, world):
    other = world.settle(world.launch("idle"), "stopped")
    mia.post(f"{LIST}/selected", {"verb": "reboot", "item": [world.instance.pk, other.pk], "to": "//evil.example"})
    text = mia.get(LIST).content.decode()
    assert "Reboot: 1 begun, 1 refused" in text
    assert "idle is not running. Start it instead." in text


def test_nothing_selected_is_said(mia, world, other_tenant, page_of):
    assert b"Nothing is selected" in mia.get(f"{LIST}/selected?verb=stop").content
    assert b"Nothing is selected" in mia.get(f"{LIST}/selected?verb=explode&item={world.instance.pk}").content
    elsewhere = f"/projects/elsewhere/instances/selected?verb=stop&item={world.instance.pk}"
    assert b"Nothing is selected" in page_of(other_tenant).get(elsewhere).content


def undo_on(text: str) -> tuple[str, dict[str, str]]:
    """Where the toast's Undo leads, and what it sends."""
    [form] = re.findall(
        r'<form class="inline-form" method="post" action="([^"]+)">((?:(?!</form>).)*>Undo<)', text, re.DOTALL
    )
    return form[0], dict(re.findall(r'name="(\w+)" value="([^"]*)"', form[1]))


def test_a_change_can_be_undone_once(mia, world):
    here = f"{LIST}/{world.instance.pk}/change"
    mia.post(here, {"name": "front", "labels": "tier=front", "restart_policy": "never"})
    text = mia.get(f"{LIST}/{world.instance.pk}").content.decode()
    path, fields = undo_on(text)
    assert ">Undo<" not in mia.get(f"{LIST}/{world.instance.pk}").content.decode()
    assert mia.post(path, fields).status_code == 303
    world.instance.refresh_from_db()
    found = (world.instance.name, world.instance.labels, world.instance.restart_policy)
    assert found == ("web", {}, "on_crash")


def test_labels_that_lines_cannot_say_stay_as_they_are(mia, world):
    here = f"{LIST}/{world.instance.pk}/change"
    world.instance.labels = {"note": "a, b=c", "tier": "front"}
    world.instance.save()
    shown = html.unescape(re.search(r'<textarea id="id-labels"[^>]*>([^<]*)', mia.get(here).content.decode())[1])  # type: ignore[index]
    mia.post(here, {"name": "front", "labels": shown, "restart_policy": "never"})
    world.instance.refresh_from_db()
    assert world.instance.labels == {"note": "a, b=c", "tier": "front"}


def test_stopping_many_can_be_undone_together(mia, world):
    other = world.settle(world.launch("other"))
    ids = [str(world.instance.pk), str(other.pk)]
    mia.post(f"{LIST}/selected", {"verb": "stop", "item": ids, "how": "ask", "grace_seconds": "5"})
    text = mia.get(LIST).content.decode()
    [form] = re.findall(r'<form class="inline-form" method="post" action="([^"]+)">((?:(?!</form>).)*>Undo<)', text)
    fields = re.findall(r'name="(\w+)" value="([^"]*)"', form[1])
    assert {value for name, value in fields if name == "item"} == set(ids)
    mia.post(form[0], {**dict(fields), "item": ids})
    assert set(Instance.objects.values_list("wanted_power", flat=True)) == {"running"}
    assert "Start: 2 begun" in mia.get(LIST).content.decode()


def test_many_are_cloned_from_the_list(mia, world):
    world.host.capabilities = {"hypervisors": {"qemu": {"verbs": ["clone"]}}}
    world.host.save()
    stopped = world.settle(world.launch("idle"), "stopped")
    ids = [str(world.instance.pk), str(stopped.pk)]
    text = mia.get(f"{LIST}/selected", {"verb": "clone", "item": ids}).content.decode()
    assert "It is not running: a clone goes on" in text
    mia.post(f"{LIST}/selected", {"verb": "clone", "item": ids, "suffix": "test", "count": "1"})
    text = mia.get(LIST).content.decode()
    assert "Clone: 1 begun, 1 refused" in text
    assert Instance.objects.get(name="web-test").cloned_from == world.instance


def test_a_stop_can_be_undone(mia, world):
    answer = mia.post(f"{LIST}/{world.instance.pk}/stop", {"how": "ask", "grace_seconds": "5"})
    path, fields = undo_on(mia.get(answer["Location"]).content.decode())
    assert mia.post(path, fields)["Location"] == f"{LIST}/{world.instance.pk}"
    world.instance.refresh_from_db()
    assert world.instance.wanted_power == "running"
    assert ">Undo<" not in mia.get(f"{LIST}/{world.instance.pk}").content.decode()


@pytest.fixture
def plugged(world, settings):
    """An instance that runs on a network of the project, with a key pair."""
    settings.PUBLISH_ON_LOOPBACK = True
    new_projects.furnish(world.project, ALICE)
    instance = world.settle(world.launch("shell", keypairs=[world.keypair]))
    [port] = ports.held_by("instance", instance.pk)
    port.host = instance.host
    port.save()
    return instance


def test_the_page_says_how_to_log_in_and_makes_what_is_missing(mia, world, plugged):
    page = f"/projects/demo/instances/{plugged.pk}"
    text = mia.get(page).content.decode()
    assert "No port outside leads to it yet." in text
    assert "do not let SSH (TCP port 22) in" in text
    assert mia.post(f"{page}/open-ssh", {"form_key": str(uuid4())})["Location"] == page
    forward = PortForward.objects.get(project=world.project)
    command = f"ssh -p {forward.listen_port} root@127.0.0.1"
    for path in (page, f"{page}/console"):
        text = mia.get(path).content.decode()
        assert command in text
        assert "do not let SSH" not in text
    [port] = ports.held_by("instance", plugged.pk)
    assert sorted(group.name for group in port.security_groups.all()) == ["default", "ssh"]
    mia.post(f"{page}/open-ssh", {"form_key": str(uuid4())})
    assert PortForward.objects.count() == 1


def test_elsewhere_a_floating_ip_leads_in(mia, world, plugged, settings):
    settings.PUBLISH_ON_LOOPBACK = False
    page = f"/projects/demo/instances/{plugged.pk}"
    answer = mia.post(f"{page}/open-ssh", {"form_key": str(uuid4())})
    assert b"This cloud has no address pool." in answer.content
    address_pools.create(actor=ALICE, name="outside", cidr="203.0.113.0/24")
    mia.post(f"{page}/open-ssh", {"form_key": str(uuid4())})
    assert f"ssh root@{FloatingIP.objects.get().address}" in mia.get(page).content.decode()


def test_without_a_network_the_console_is_the_way(mia, world):
    text = mia.get(f"/projects/demo/instances/{world.instance.pk}").content.decode()
    assert "It is on no network: use the console." in text
    assert "Make it reachable" not in text


@pytest.mark.parametrize(
    ("power", "verb"), [("running", "Stop"), ("stopped", "Start"), ("paused", "Resume"), ("suspended", "Resume")]
)
def test_console_comes_first_then_what_fits_the_state(mia, world, power, verb):
    instance = world.settle(world.launch(), power)
    text = mia.get(f"/projects/demo/instances/{instance.pk}").content.decode()
    head = text.split('id="instance-head"')[1].split("<summary")[0]
    assert re.findall(r"</svg> ?([A-Z][a-z]+)", head) == ["Console", verb]


def test_the_charts_of_a_young_instance_begin_with_it_and_a_range_stays_in_the_address(page_of, member, world):
    samples.take_in(host=world.host, samples=[{"id": str(world.instance.pk), "age": 5, "cpu_percent": 40}])
    mia, path = page_of(member), f"/projects/demo/instances/{world.instance.pk}"
    assert "Since it was made" in mia.get(path).content.decode()
    Instance.objects.filter(pk=world.instance.pk).update(created_at=Now() - timedelta(days=2))
    assert "The last hour" in mia.get(path).content.decode()
    assert "The last hour" in mia.get(f"{path}?from=2020-01-01T00:00").content.decode()
    begin = timezone.now() - timedelta(minutes=20)
    page = mia.get(f"{path}?from={begin:%Y-%m-%dT%H:%M:%S}").content.decode()
    assert f'data-from="{begin:%Y-%m-%dT%H:}' in page
    assert "data-to=" not in page
    assert 'data-span=""' in page


def test_each_disk_has_charts_where_there_are_several(page_of, member, world):
    mia, path, own = page_of(member), f"/projects/demo/instances/{world.instance.pk}", str(world.instance.pk)
    assert "Each disk" not in mia.get(path).content.decode()
    disk = {"id": own, "device": own, "age": 5, "disk_reads_per_second": 5}
    samples.take_in(host=world.host, samples=[{"id": own, "age": 5, "cpu_percent": 40}], devices=[disk])
    page = mia.get(path).content.decode()
    assert "Each disk" in page
    assert "Each NIC" not in page
    assert f"disks/{own}/disk_reads_per_second" in page
    assert "Disk web, operations, reads" in page
