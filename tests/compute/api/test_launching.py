"""Launching several at once, and user data, through the REST API."""

import json

import pytest

from cloud.api.models import IdempotencyKey
from cloud.events.models import Event
from cloud.hosts.models import Allocation, Host
from cloud.tenancy.models import Quota
from compute import logins
from compute.models import Instance
from storage.models import Image

pytestmark = pytest.mark.django_db(transaction=True)


def test_several_are_launched_by_one_call(cloud, mia, path, body):
    answer = mia.post(path, {**body, "count": 3, "labels": {"tier": "front"}}, HTTP_IDEMPOTENCY_KEY="three")
    assert answer.status_code == 202, answer.json()
    shown = answer.json()
    assert [one["name"] for one in shown["items"]] == ["web-1", "web-2", "web-3"]
    assert {one["status"] for one in shown["items"]} == {"launching"}
    assert shown["next"] is None
    assert Event.objects.filter(action="compute.instance.launch").count() == 3

    again = mia.post(path, {**body, "count": 3, "labels": {"tier": "front"}}, HTTP_IDEMPOTENCY_KEY="three")
    assert again.headers["Idempotent-Replay"] == "true"
    assert again.json() == shown
    cloud.settle()
    assert {one["status"] for one in mia.get(path).json()["items"]} == {"running"}
    assert cloud.breaches() == []


def test_one_of_several_is_an_ordinary_launch(mia, path, body):
    answer = mia.post(path, {**body, "count": 1})
    assert (answer.status_code, answer.json()["name"]) == (202, "web")
    assert "Location" in answer.headers


def test_several_are_all_or_none(cloud, mia, path, body):
    Quota.objects.filter(project=cloud.project).update(limits={"instances": 2})
    answer = mia.post(path, {**body, "count": 3})
    assert (answer.status_code, answer.json()["code"]) == (403, "over_quota")
    assert answer.json()["quota"] == [{"kind": "instances", "limit": 2, "used": 0, "asked": 3}]
    Quota.objects.filter(project=cloud.project).update(limits={"instances": 5})
    mia.post(path, {**body, "name": "web-2"})
    answer = mia.post(path, {**body, "count": 3})
    assert (answer.status_code, answer.json()["errors"]) == (
        409,
        [{"pointer": "/name", "message": "web-2 is taken. Choose another name.", "code": "conflict"}],
    )
    assert list(Instance.objects.values_list("name", flat=True)) == ["web-2"]


@pytest.mark.parametrize("count", [0, 21, "3", None, 2.5])
def test_a_count_is_1_to_20(mia, path, body, count):
    answer = mia.post(path, {**body, "count": count})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/count")


def test_a_number_must_fit_into_the_name(mia, path, body):
    answer = mia.post(path, {**body, "name": "w" * 62, "count": 2})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/name")
    assert mia.post(path, {**body, "name": "w" * 61, "count": 2}).status_code == 202


def test_a_dry_run_of_several_places_them_one_after_the_other(cloud, mia, path, body):
    Host.objects.update(free_vcpus=2)
    shown = mia.post(f"{path}?dry_run=true", {**body, "count": 3}).json()
    assert [placement["placed"] for placement in shown["plan"]["placements"]] == [True, True, False]
    assert shown["plan"]["quota"]["after"]["instances"]["used"] == 3
    assert not Instance.objects.exists()
    assert not Allocation.objects.exists()
    refused = mia.post(f"{path}?fail_fast=true", {**body, "count": 3})
    assert (refused.status_code, refused.json()["code"]) == (409, "no_capacity")
    assert not Instance.objects.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#cloud-config\nusers: [ada\nhostname: web\n", "Line 3, column 9: did not find expected ',' or ']'."),
        ("#cloud-config\n- hostname\n", "Line 2: cloud-config is a mapping"),
        ("#cloud-config\na: \x07\n", "control characters"),
        ("#cloud-config\n" + "[" * 60_000, "nesting depth"),
        ("data", "Line 1: nothing says what this is"),
        ("#cloud-config\na: {{ b }}\n", "Line 2: a key is plain text"),
        ("#cloud-config\n" + "é" * 40_000, "At most 64 KiB"),
    ],
)
def test_a_cloud_config_that_no_guest_could_read_is_refused_by_line(cloud, mia, path, body, text, words):
    answer = mia.post(path, {**body, "user_data": text})
    assert answer.status_code == 400
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == "/user_data"
    assert words in fault["message"]


@pytest.mark.parametrize("text", ["#!/bin/sh\nusers: [ada", "#cloud-config\n", "#cloud-config\nruncmd: [ls]\n", " \n"])
def test_user_data_of_other_kinds_and_good_ones_are_taken(cloud, mia, path, body, text):
    assert mia.post(f"{path}?dry_run=true", {**body, "user_data": text}).status_code in (200, 202)


def test_a_generated_password_is_told_again_for_the_same_key_and_kept_nowhere(mia, path, body):
    sent = {**body, "generate_password": True}
    first = mia.post(path, sent, HTTP_IDEMPOTENCY_KEY="once").json()
    password = first["generated_password"]
    assert logins.matches(password, Instance.objects.get(name="web").password_hash)
    again = mia.post(path, sent, HTTP_IDEMPOTENCY_KEY="once")
    assert (again.headers["Idempotent-Replay"], again.json()) == ("true", first)
    assert password not in json.dumps(list(IdempotencyKey.objects.values("request", "headers", "body")), default=str)
    shown = json.dumps(mia.get(f"{path}/web").json())
    assert "password" not in shown.replace("generate_password", "").replace("password_waits", "")
    Instance.objects.update(password_hash=logins.hashed("another one"))
    assert mia.post(path, sent, HTTP_IDEMPOTENCY_KEY="once").json()["generated_password"] is None


def test_several_have_one_password_and_other_calls_another(mia, path, body):
    items = mia.post(path, {**body, "count": 2, "generate_password": True}).json()["items"]
    assert len({one["generated_password"] for one in items}) == 1
    other = mia.post(path, {**body, "name": "db", "generate_password": True}).json()
    assert other["generated_password"] not in {None, items[0]["generated_password"]}
    plain = mia.post(path, {**body, "name": "plain"}).json()
    assert (plain["generated_password"], Instance.objects.get(name="plain").password_hash) == (None, "")


def test_ones_own_password_reaches_the_guest_as_a_hash(cloud, mia, path, body):
    mia.post(path, {**body, "password": "correct horse"})
    cloud.settle()
    instance = Instance.objects.get(name="web")
    seed = cloud.nodes[0].hypervisor.spec(str(instance.pk))["seed"]
    assert logins.matches("correct horse", seed["password_hash"])
    assert "correct horse" not in json.dumps([[event.before, event.after] for event in Event.objects.all()])


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"password": "short"}, "/password"),
        ({"password": "a\nb" * 9}, "/password"),
        ({"password": "x" * 129}, "/password"),
        ({"password": "correct horse", "generate_password": True}, "/generate_password"),
    ],
)
def test_a_password_that_cannot_be_is_refused(mia, path, body, wish, field):
    answer = mia.post(path, {**body, **wish})
    assert (answer.status_code, [fault["pointer"] for fault in answer.json()["errors"]]) == (400, [field])


def test_what_only_a_full_cloud_init_reads_needs_an_image_that_has_one(cloud, mia, path, body):
    template = "## template: jinja\n#cloud-config\nhostname: {{ v1.x }}\n"
    wish = {**body, "password": "correct horse", "user_data": template}
    (fault,) = mia.post(path, wish).json()["errors"]
    assert fault["pointer"] == "/user_data"
    assert "Line 1: text/jinja2 is not supported by this image" in fault["message"]
    Image.objects.update(cloud_init=True)
    (warning,) = mia.post(f"{path}?dry_run=true", wish).json()["plan"]["warnings"]
    assert warning.startswith("text/jinja2 in its user data is given to the guest as it is")
    assert mia.post(path, wish).status_code == 202
    cloud.settle()
    seed = cloud.nodes[0].hypervisor.spec(str(Instance.objects.get().pk))["seed"]
    assert seed["user_data"] == wish["user_data"]


def test_a_plan_warns_that_nobody_could_log_in(mia, path, body):
    def warnings(**wish):
        return mia.post(f"{path}?dry_run=true", {**body, **wish}).json()["plan"]["warnings"]

    assert warnings() == [logins.NOBODY]
    assert warnings(user_data="#cloud-config\nhostname: web\n") == [logins.NOBODY]
    assert warnings(user_data="#!/bin/sh\n") == warnings(password="correct horse") == []
    assert warnings(generate_password=True) == []
    assert mia.post(path, body).status_code == 202
