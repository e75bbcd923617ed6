"""Where a host is sent for an image file: to a peer that has it, to the store, or to wait a little."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import Client

from cloud.hosts.models import Host, HostPulse
from cloud.operations.troubles import troubles
from storage import peers, tickets
from storage.models import CachedFile
from tests import factories
from tests.fakes import django_request

pytestmark = pytest.mark.django_db(transaction=True)

FILE = "f" * 64
OTHER = "e" * 64
SIZE = 2 << 30
NOW = 1_000_000_000


def serving(downloads=2, held=()):
    """A host that serves its cache."""
    serves = {"address": "10.0.0.7:8490", "fingerprint": "a" * 64, "downloads": downloads}
    told = {"image_cache": {"held": dict.fromkeys(held, SIZE), "serves": serves}}
    host = factories.host(capabilities=told)
    peers.noticed(host, told)
    return host


def ask(host, **more):
    return peers.turn(host, FILE, size=SIZE, **more)


def done(host, answer):
    peer = answer.get("peer")
    peers.note_done(host, FILE, size=SIZE, peer=peer["id"] if peer else None)


def age(field, seconds):
    CachedFile.objects.update(**{field: Now() - timedelta(seconds=seconds)})


def test_a_host_is_sent_to_a_peer_that_has_the_file_with_a_ticket_that_the_peer_can_read():
    peer, asking, other = serving(held=[FILE]), factories.host(), serving(held=[FILE])
    CachedFile.objects.filter(host=other).delete()
    told = ask(asking)["peer"]
    assert (told["id"], told["address"], told["fingerprint"]) == (str(peer.pk), "10.0.0.7:8490", "a" * 64)
    key = peers.key_of(peer)
    assert tickets.read(key, told["ticket"], FILE, NOW) == str(asking.pk)
    for wrong_key, file in ((key, OTHER), (peers.key_of(other), FILE), (b"", FILE)):
        with pytest.raises(PermissionError):
            tickets.read(wrong_key, told["ticket"], file, NOW)
    with pytest.raises(PermissionError, match="old"):
        tickets.read(key, told["ticket"], FILE, NOW * 10)


def test_without_peers_everybody_goes_to_the_store_at_once(settings):
    settings.IMAGE_STORE_STARTS = 2
    assert [ask(factories.host()) for _ in range(5)] == [{}] * 5


def test_a_few_begin_at_the_store_and_the_others_get_it_from_these(settings):
    settings.IMAGE_STORE_STARTS = 2
    hosts = [serving() for _ in range(8)]
    answers = {host: ask(host) for host in hosts}
    assert list(answers.values())[:2] == [{}, {}]
    assert all(answer["wait"] > 0 for answer in list(answers.values())[2:])
    done(hosts[0], {})
    later = {host: ask(host) for host in hosts[2:]}
    sent = [answer["peer"]["id"] for answer in later.values() if "peer" in answer]
    assert sent == [str(hosts[0].pk)] * 2
    for host in hosts[2:4]:
        done(host, later[host])
    sent = Counter(ask(host)["peer"]["id"] for host in hosts[4:])
    assert sorted(sent.values()) == [1, 1, 2]
    assert CachedFile.objects.get(host=hosts[2]).came_from == hosts[0]


@pytest.mark.parametrize("starts", [0, 100])
def test_nobody_waits_where_an_operator_does_not_want_it(settings, starts):
    settings.IMAGE_STORE_STARTS = starts
    assert [ask(serving()) for _ in range(5)] == [{}] * 5


def test_who_fetches_and_is_not_heard_of_any_more_holds_nobody_up(settings):
    settings.IMAGE_STORE_STARTS = 1
    first, second = serving(), serving()
    assert ask(first) == {}
    assert "wait" in ask(second)
    age("heard_at", 10)
    peers.note_progress(first, FILE, 5)
    assert "wait" in ask(second)
    assert CachedFile.objects.get(host=first).received == 5
    age("heard_at", 20)
    assert ask(second) == {}


def test_nobody_waits_for_ever(settings):
    settings.IMAGE_STORE_STARTS = 1
    first, second = serving(), serving()
    ask(first)
    ask(second)
    CachedFile.objects.filter(host=second).update(since=Now() - timedelta(seconds=301))
    assert ask(second) == {}


def test_a_peer_that_failed_is_left_alone_for_a_while_and_then_asked_again():
    peer, one, other = serving(held=[FILE, OTHER]), factories.host(), factories.host()
    assert "peer" in ask(one)
    failed = [{"peer": peer.pk, "problem": "TimeoutError: timed out", "wrong": False}]
    assert ask(one, failed=failed) == {}
    assert ask(other) == {}
    assert peers.turn(other, OTHER, size=SIZE) == {}
    row = CachedFile.objects.get(host=peer, sha256=FILE)
    assert row.problem == f"{one.name}: TimeoutError: timed out"
    age("problem_at", 61)
    assert "peer" in ask(other)
    assert ask(one, tried=[peer.pk]) == {}
    peers.note_done(other, FILE, size=SIZE, peer=peer.pk)
    row.refresh_from_db()
    assert row.problem == ""


def test_a_host_can_blame_only_the_peer_to_which_it_was_sent():
    peer, one = serving(held=[OTHER]), factories.host()
    ask(one, failed=[{"peer": peer.pk, "problem": "it sent other bytes", "wrong": True}])
    peers.turn(one, OTHER, size=SIZE, peers=False, failed=[{"peer": peer.pk, "problem": "no", "wrong": True}])
    assert peers.doubted(peer) == []
    assert not CachedFile.objects.exclude(problem="").exists()


def test_a_busy_peer_has_no_problem():
    peer, one = serving(held=[FILE]), factories.host()
    assert ask(one, failed=[{"peer": peer.pk, "problem": "", "wrong": False}]) == {}
    assert "peer" in ask(one)


def test_a_file_of_which_a_peer_sent_other_bytes_is_not_fetched_there_for_a_day_and_its_host_looks_at_it():
    peer, one, other = serving(held=[FILE, OTHER]), factories.host(), factories.host()
    ask(one)
    ask(one, failed=[{"peer": peer.pk, "problem": "it sent other bytes", "wrong": True}])
    assert ask(other) == {}
    assert "peer" in peers.turn(other, OTHER, size=SIZE)
    assert peers.doubted(peer) == [FILE]
    peers.note_done(one, OTHER, size=SIZE, peer=peer.pk)
    assert peers.doubted(peer) == [FILE]
    age("problem_at", 24 * 3600 + 1)
    assert peers.doubted(peer) == []
    assert "peer" in ask(other)


def test_no_host_is_named_that_is_silent_or_quarantined_or_does_not_serve():
    silent, bad, mute = serving(held=[FILE]), serving(held=[FILE]), factories.host()
    peers.noticed(mute, {"image_cache": {"held": {FILE: SIZE}}})
    HostPulse.objects.filter(host=silent).update(seen_at=Now() - timedelta(hours=1))
    bad.quarantined = "for a test"
    bad.save(update_fields=["quarantined"])
    assert ask(factories.host()) == {}


def test_a_host_that_has_it_itself_is_sent_to_others_only():
    only = serving(held=[FILE])
    assert ask(only) == {}
    other = serving(held=[FILE])
    assert ask(only)["peer"]["id"] == str(other.pk)


def test_a_heartbeat_says_what_is_in_a_cache():
    host = factories.host()
    peers.noticed(host, {"image_cache": {"held": {FILE: 5, OTHER: 6}}})
    assert set(CachedFile.objects.filter(host=host).values_list("sha256", "size", "state")) == {
        (FILE, 5, "here"), (OTHER, 6, "here"),
    }  # fmt: skip
    peers.noticed(host, {"image_cache": {"held": {FILE: 5}}})
    assert CachedFile.objects.filter(host=host).count() == 2  # it may just have come
    age("heard_at", 61)
    peers.noticed(host, {})
    peers.noticed(host, {"image_cache": {"held": {FILE: 5}}})
    assert CachedFile.objects.get(host=host).sha256 == FILE


def test_fetches_that_ended_in_silence_are_forgotten():
    ask(factories.host())
    peers.forget()
    assert CachedFile.objects.exists()
    age("heard_at", 3601)
    peers.forget()
    assert not CachedFile.objects.exists()


def test_only_who_needs_a_file_gets_a_ticket_for_it(cloud, settings, tmp_path):
    peer = serving(held=[FILE])
    Host.objects.filter(pk=peer.pk).update(enabled=False)  # nothing is placed there, and it serves all the same
    cloud.image.files = [{"role": "kernel", "sha256": FILE, "size": 8, "format": None}]
    cloud.image.save()
    settings.IMAGE_STORE = tmp_path
    (tmp_path / FILE).write_bytes(b"a kernel")
    request = django_request(Client())
    other = cloud.add_node("other")

    def wish(token, name=FILE):
        return request("PUT", f"/agent/v1/files/{name}/turn", {"size": 8}, token)

    assert wish(cloud.node.token)[0] == 404
    instance = cloud.launch()
    here, there = (cloud.node, other) if instance.host.name == "node1" else (other, cloud.node)
    status, told = wish(here.token)
    assert (status, told["peer"]["id"]) == (200, str(peer.pk))
    assert wish(there.token)[0] == 404
    assert wish(here.token, "0" * 64)[0] == 404
    assert wish(here.token, "..")[0] == 404
    assert wish("")[0] == 401
    assert wish(factories.token(factories.user()))[0] == 401
    for method, body in (("PATCH", {"received": 3}), ("POST", {"size": 8, "peer": str(peer.pk)})):
        assert request(method, f"/agent/v1/files/{FILE}/turn", body, here.token)[0] == 204
        assert request(method, f"/agent/v1/files/{FILE}/turn", body, there.token)[0] == 404
    assert request("PUT", f"/agent/v1/files/{FILE}/turn", {"failed": [{"peer": "x"}]}, here.token)[0] == 400


def test_each_host_is_told_a_key_of_its_own(cloud):
    request = django_request(Client())
    other = cloud.add_node("other")
    keys = {request("GET", "/agent/v1/serving", None, node.token)[1]["key"] for node in (cloud.node, other)}
    assert len(keys) == 2
    assert all(len(bytes.fromhex(key)) == 32 for key in keys)
    assert request("GET", "/agent/v1/serving", None, "")[0] == 401


def shown():
    return {found.title: [case.words for case in found.cases] for found in troubles()}


def test_what_went_wrong_with_a_peer_is_shown_with_what_to_do():
    peer, one = serving(held=[FILE, OTHER]), factories.host()
    ask(one)
    ask(one, failed=[{"peer": peer.pk, "problem": "TimeoutError: timed out", "wrong": False}])
    title = "Image caches that other hosts cannot fetch from"
    assert shown()[title] == [f"{FILE[:12]}…: {one.name}: TimeoutError: timed out"]
    peers.note_done(one, FILE, size=SIZE, peer=peer.pk)
    assert title not in shown()
    wrong = [{"peer": peer.pk, "problem": "it sent other bytes", "wrong": True}]
    peers.turn(one, OTHER, size=SIZE)
    peers.turn(one, OTHER, size=SIZE, failed=wrong)
    assert shown()["Image caches that sent wrong bytes"] == [f"{OTHER[:12]}…: {one.name}: it sent other bytes"]
    peer.pulse.problems = [{"what": "peers", "problem": "other hosts get no images from this one: it cannot listen"}]
    peer.pulse.save(update_fields=["problems"])
    assert "cannot listen" in shown()["Hosts that cannot serve their image cache"][0]


def test_admins_see_caches_on_the_pages_of_hosts_and_images_and_tenants_do_not(client, project):
    image = factories.image(files=[{"role": "disk", "sha256": FILE, "size": SIZE, "format": "qcow2"}])
    peer, one = serving(held=[FILE]), factories.host()
    answer = ask(one)
    done(one, answer)
    client.force_login(factories.user(is_cloud_admin=True))
    page = client.get(f"/cloud/hosts/{one.pk}").content.decode()
    assert image.name in page
    assert peer.name in page
    assert "PILEUS_PEER_ADDRESS is not set there." in page
    page = client.get(f"/cloud/hosts/{peer.pk}").content.decode()
    assert "10.0.0.7:8490" in page
    where = f"/projects/{project.name}/images/{image.pk}"
    page = client.get(where).content.decode()
    assert one.name in page
    assert peer.name in page
    client.force_login(factories.member(project))
    page = client.get(where).content.decode()
    assert image.name in page
    assert one.name not in page
