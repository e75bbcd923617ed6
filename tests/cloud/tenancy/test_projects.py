"""Projects, members, quotas."""

import uuid

import pytest

from cloud.events.models import Event
from cloud.tenancy import quota
from cloud.tenancy.models import Membership, Project, Quota
from tests import factories


def test_an_admin_of_the_cloud_makes_a_project_with_its_admin(api, cloud_admin, member):
    answer = api.as_(cloud_admin).post("projects", {"name": "new", "admin": "mia", "labels": {"team": "a"}})
    assert answer.status_code == 201
    assert answer.json()["role"] == "admin"
    assert api.as_(member).get("projects/new").json()["role"] == "admin"
    assert Quota.objects.get(project__name="new").limits["instances"] > 0
    assert Event.objects.get(action="tenancy.project.create").project_id == Project.objects.get(name="new").pk


def test_only_admins_of_the_cloud_make_and_delete_projects(api, project_admin):
    assert api.as_(project_admin).post("projects", {"name": "new"}).status_code == 403
    assert api.as_(project_admin).delete("projects/demo").status_code == 403


def test_a_project_that_is_not_empty_says_what_is_in_it(api, cloud_admin, member):
    admin = api.as_(cloud_admin)
    for name in ("one", "two"):
        api.as_(member).post("projects/demo/keypairs", {"name": name})
    refused = admin.delete("projects/demo")
    assert (refused.status_code, refused.json()["detail"]) == (409, "It is in use by 2 key pairs.")
    for name in ("one", "two"):
        api.as_(member).delete(f"projects/demo/keypairs/{name}")
    assert admin.delete("projects/demo").status_code == 204
    assert admin.get("projects/demo").status_code == 404


def test_the_invisible_and_the_random_get_the_same_body(api, other_tenant, project):
    otto = api.as_(other_tenant)
    bodies = []
    for reference in ("demo", project.pk, "nothing", uuid.uuid4()):
        for path in ("", "/keypairs", "/members", "/quota", "/operations", "/events", "/keypairs/x", "/instances"):
            answer = otto.get(f"projects/{reference}{path}")
            assert answer.status_code == 404
            bodies.append({key: value for key, value in answer.json().items() if key != "request_id"})
    assert all(body == bodies[0] for body in bodies)


def test_a_project_is_found_by_id_and_by_name_and_listed_to_its_members(api, viewer, project):
    factories.project("invisible")
    vera = api.as_(viewer)
    assert vera.get(f"projects/{project.pk}").json() == vera.get("projects/demo").json()
    assert [item["name"] for item in vera.get("projects").json()["items"]] == ["demo"]


def test_its_admin_changes_a_project_and_a_member_does_not(api, project_admin, member):
    assert api.as_(member).patch("projects/demo", {"description": "x"}).status_code == 403
    changed = api.as_(project_admin).patch("projects/demo", {"description": "x", "name": "demo2"})
    assert (changed.status_code, changed.json()["name"]) == (200, "demo2")
    assert api.as_(member).get("projects/demo2").status_code == 200


def test_members_come_change_and_go_by_name_or_id(api, project_admin, project):
    ada, nina = api.as_(project_admin), factories.user("nina")
    made = ada.post("projects/demo/members", {"user": "nina", "role": "viewer"})
    assert made.status_code == 201
    assert made["Location"].endswith(f"/members/{nina.pk}")
    assert made.json()["user"] == {"id": str(nina.pk), "name": "nina"}
    assert ada.get(made["Location"]).json() == made.json()
    assert ada.patch("projects/demo/members/nina", {"role": "member"}).json()["role"] == "member"
    assert ada.delete(f"projects/demo/members/{nina.pk}").status_code == 204
    assert api.as_(nina).get("projects/demo").status_code == 404
    actions = list(Event.objects.order_by("id").values_list("action", flat=True))
    assert actions == [f"tenancy.member.{verb}" for verb in ("create", "update", "delete")]


def test_a_member_twice_is_a_conflict(api, project_admin, member):
    answer = api.as_(project_admin).post("projects/demo/members", {"user": "mia", "role": "viewer"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (409, "/user")


def test_an_unknown_user_and_an_unknown_role_are_named_together(api, project_admin):
    faults = api.as_(project_admin).post("projects/demo/members", {"user": "nobody", "role": "king"}).json()["errors"]
    assert {(fault["pointer"], fault["code"]) for fault in faults} == {
        ("/user", "not_found"),
        ("/role", "invalid_choice"),
    }


def test_the_last_admin_of_a_project_stays(api, project_admin, member, cloud_admin):
    for who in (project_admin, cloud_admin):
        assert api.as_(who).delete("projects/demo/members/ada").status_code == 409
        assert api.as_(who).patch("projects/demo/members/ada", {"role": "viewer"}).status_code == 409
    api.as_(project_admin).patch("projects/demo/members/mia", {"role": "admin"})
    assert api.as_(project_admin).delete("projects/demo/members/ada").status_code == 204
    assert Membership.objects.get().user == member


@pytest.mark.parametrize("who", ["viewer", "member"])
def test_members_are_changed_by_admins_only(api, request, who, project_admin):
    client = api.as_(request.getfixturevalue(who))
    assert client.get("projects/demo/members").status_code == 200
    assert client.post("projects/demo/members", {"user": "ada", "role": "viewer"}).status_code == 403
    assert client.patch("projects/demo/members/ada", {"role": "viewer"}).status_code == 403
    assert client.delete("projects/demo/members/ada").status_code == 403


def test_quota_shows_limit_use_and_what_is_left(api, viewer, member):
    api.as_(member).post("projects/demo/keypairs", {"name": "one"})
    shown = api.as_(viewer).get("projects/demo/quota").json()
    assert shown["keypairs"] == {"limit": 50, "used": 1, "left": 49}
    assert shown["routers"]["used"] == 0


def test_admins_of_the_cloud_set_limits_and_null_means_none(api, cloud_admin, project_admin):
    assert api.as_(project_admin).patch("projects/demo/quota", {"keypairs": 99}).status_code == 403
    admin = api.as_(cloud_admin)
    changed = admin.patch("projects/demo/quota", {"keypairs": None, "instances": 7}).json()
    assert changed["keypairs"] == {"limit": None, "used": 0, "left": None}
    assert (changed["instances"]["limit"], changed["vcpus"]["limit"]) == (7, 40)
    event = Event.objects.get()
    assert (event.before, event.after) == ({"keypairs": 50, "instances": 20}, {"keypairs": None, "instances": 7})


def test_faults_of_limits_are_all_named(api, cloud_admin):
    faults = api.as_(cloud_admin).patch("projects/demo/quota", {"keypairs": -1, "bananas": 1, "vcpus": "x"})
    assert faults.status_code == 404
    factories.project("demo")
    faults = api.as_(cloud_admin).patch("projects/demo/quota", {"keypairs": -1, "bananas": 1, "vcpus": "x"}).json()
    assert {fault["pointer"] for fault in faults["errors"]} == {"/keypairs", "/bananas", "/vcpus"}


def test_a_limit_does_not_go_below_what_is_in_use(api, cloud_admin, member):
    api.as_(member).post("projects/demo/keypairs", {"name": "one"})
    answer = api.as_(cloud_admin).patch("projects/demo/quota", {"keypairs": 0})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (409, "/keypairs")


def test_a_dry_run_of_a_limit_shows_before_and_after(api, cloud_admin, project):
    plan = api.as_(cloud_admin).patch("projects/demo/quota?dry_run=true", {"keypairs": 3}).json()["plan"]
    assert plan["quota"]["before"]["keypairs"]["limit"] == 50
    assert plan["quota"]["after"]["keypairs"]["limit"] == 3
    project.quota.refresh_from_db()
    assert project.quota.limits["keypairs"] == 50


def test_usage_of_all_kinds_is_one_query(project, django_assert_num_queries):
    with django_assert_num_queries(1):
        quota.usage(project)


def test_every_exceeded_kind_is_named(project):
    project.quota.limits.update(instances=1, vcpus=2)
    project.quota.save()
    with pytest.raises(quota.OverQuota) as refused:
        quota.require(project, instances=2, vcpus=3, memory_mib=64)
    assert [over["kind"] for over in refused.value.extra["quota"]] == ["instances", "vcpus"]
    assert len(refused.value.errors) == 2


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("patch", "projects/demo?dry_run=true", lambda number: {"name": f"guess-{number}"}),
        ("post", "projects/demo/members?dry_run=true", lambda number: {"user": f"guess-{number}", "role": "viewer"}),
    ],
)
def test_names_of_others_are_not_found_out_by_trying_them(api, project_admin, method, path, body):
    ada = api.as_(project_admin)
    answers = [getattr(ada, method)(path, body(number), format="json").status_code for number in range(30)]
    assert 15 < answers.index(429) < 25
    assert set(answers[answers.index(429) + 2 :]) <= {429, answers[0]}


def test_adding_those_who_are_there_is_not_counted(api, project_admin):
    ada = api.as_(project_admin)
    for _ in range(30):
        user = factories.user()
        answer = ada.post("projects/demo/members", {"user": user.username, "role": "viewer"}, format="json")
        assert answer.status_code == 201
