"""Whatever the API can change, the dashboard can; and every verb of an instance is done by its URLs.

A new verb is in these tests by being in `compute.verbs`; if its body has required fields, BODIES says what to send.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.urls import URLPattern

from cloud.api.documentation import document
from cloud.events.models import Event
from cloud.hosts.models import Host
from cloud.operations.models import Operation
from cloud.pages import words
from cloud.pages.icons import PATHS
from cloud.pages.templatetags.pages import tone
from cloud.tenancy.models import Role
from cloud.urls import pages
from compute.models import Instance, Machine
from compute.pages import rows
from compute.pages.actions import actions_for
from compute.status import STATUSES
from compute.verb import NEVER, Verb
from compute.verbs import VERBS, WORK
from network.services import networks, ports
from network.services.ports import Holder
from storage.services import attaching, volumes
from tests import factories
from tests.cloud.dashboard.conftest import ALICE
from tests.test_every_workflow import steps_of

DOCS = (Path(__file__).resolve().parents[3] / "docs/api.md").read_text()
P = "/projects/{project}"
I = f"{P}/instances/{{ref}}"  # noqa: E741
# The API's change, and the name of the dashboard's URL that takes it.
WHERE = {
    f"POST {P}/instances": "launch",
    f"PATCH {I}": "change-instance",
    **{f"{verb.method} {I}{'' if verb.method == 'DELETE' else f'/{verb.name}'}": "instance-verb"
       for verb in VERBS.values()},
    f"POST {I}/console": "console",
    f"POST {I}/create-image": "create-image",
    f"POST {I}/diagnose-connection": "diagnose",
    f"POST {P}/instance-actions": "selected-instances",
    f"POST {P}/operations/{{ref}}/cancel": "cancel",
    f"POST {P}/images": "import-image",
    f"PATCH {P}/images/{{ref}}": "change-image",
    f"DELETE {P}/images/{{ref}}": "delete-image",
    f"POST {P}/images/{{ref}}/export": "export-image",
    f"DELETE {P}/exports/{{ref}}": "delete-export",
    f"POST {P}/images/{{ref}}/share": "share-image",
    f"POST {P}/images/{{ref}}/unshare": "unshare-image",
    f"POST {P}/images/{{ref}}/publish": "publish-image",
    f"PUT {P}/images/{{ref}}/file": "image",  # by its script
    f"POST {P}/keypairs": "keypairs",
    f"PATCH {P}/keypairs/{{ref}}": "change-keypair",
    f"DELETE {P}/keypairs/{{ref}}": "delete-keypair",
    f"POST {P}/members": "members",
    f"PATCH {P}/members/{{ref}}": "member",
    f"DELETE {P}/members/{{ref}}": "member",
    f"POST {P}/quota-requests": "quota",
    f"POST {P}/quota-requests/{{ref}}/withdraw": "withdraw-quota-request",
    f"POST {P}/saved-views": "save-view",
    f"PATCH {P}/saved-views/{{ref}}": "rename-view",
    f"DELETE {P}/saved-views/{{ref}}": "forget-view",
    f"POST {P}/volumes": "volumes",
    f"PATCH {P}/volumes/{{ref}}": "change-volume",
    f"DELETE {P}/volumes/{{ref}}": "delete-volume",
    f"POST {P}/volumes/{{ref}}/resize": "resize-volume",
    f"POST {P}/volumes/{{ref}}/move": "move-volume",
    f"POST {P}/instances/{{ref}}/move": "move-instance",
    f"POST {P}/volumes/{{ref}}/retype": "retype-volume",
    f"POST {P}/volumes/{{ref}}/snapshot": "snapshot-volume",
    f"POST {P}/volumes/{{ref}}/backup": "back-up-volume",
    f"POST {P}/volumes/{{ref}}/restore-backup": "restore-backup-over",
    f"POST {P}/volumes/{{ref}}/schedule-backups": "schedule-backups",
    f"POST {P}/volumes/{{ref}}/unschedule-backups": "unschedule-backups",
    f"PATCH {P}/backups/{{ref}}": "change-backup",
    f"DELETE {P}/backups/{{ref}}": "delete-backup",
    f"POST {P}/backups/{{ref}}/restore": "restore-backup",
    f"POST {P}/backups/{{ref}}/drill": "drill-backup",
    f"POST {P}/volumes/{{ref}}/clone": "clone-volume",
    f"POST {P}/volumes/{{ref}}/revert": "revert-volume",
    **{f"POST {P}/{kind}/{{ref}}/{verb}": f"{verb}-from-trash"
       for kind in ("instances", "volumes", "images") for verb in ("restore", "purge")},
    f"PATCH {P}/snapshots/{{ref}}": "change-snapshot",
    f"POST {P}/snapshots/{{ref}}/create-image": "create-image-of-snapshot",
    f"POST {P}/volumes/{{ref}}/create-image": "create-image-of-volume",
    f"DELETE {P}/snapshots/{{ref}}": "delete-snapshot",
    f"POST {P}/networks": "networks",
    f"PATCH {P}/networks/{{ref}}": "change-network",
    f"DELETE {P}/networks/{{ref}}": "delete-network",
    f"POST {P}/subnets": "subnets",
    f"PATCH {P}/subnets/{{ref}}": "change-subnet",
    f"DELETE {P}/subnets/{{ref}}": "delete-subnet",
    f"POST {P}/ports": "ports",
    f"PATCH {P}/ports/{{ref}}": "change-port",
    f"DELETE {P}/ports/{{ref}}": "delete-port",
    f"POST {P}/routers": "routers",
    f"PATCH {P}/routers/{{ref}}": "change-router",
    f"DELETE {P}/routers/{{ref}}": "delete-router",
    f"POST {P}/routers/{{ref}}/attach-subnet": "router",
    f"POST {P}/routers/{{ref}}/detach-subnet": "detach-subnet",
    f"POST {P}/security-groups": "security-groups",
    f"PATCH {P}/security-groups/{{ref}}": "change-security-group",
    f"DELETE {P}/security-groups/{{ref}}": "delete-security-group",
    f"POST {P}/security-groups/{{group}}/rules": "security-group",
    f"DELETE {P}/security-groups/{{group}}/rules/{{ref}}": "remove-rule",
    f"POST {P}/floating-ips": "floating-ips",
    f"PATCH {P}/floating-ips/{{ref}}": "change-floating-ip",
    f"DELETE {P}/floating-ips/{{ref}}": "delete-floating-ip",
    f"POST {P}/floating-ips/{{ref}}/associate": "associate-floating-ip",
    f"POST {P}/floating-ips/{{ref}}/disassociate": "disassociate-floating-ip",
    f"POST {P}/port-forwards": "port-forwards",
    f"PATCH {P}/port-forwards/{{ref}}": "change-port-forward",
    f"DELETE {P}/port-forwards/{{ref}}": "delete-port-forward",
    "POST /address-pools": "address-pools",
    "PATCH /address-pools/{ref}": "change-address-pool",
    "DELETE /address-pools/{ref}": "delete-address-pool",
    "POST /projects": "cloud-projects",
    f"PATCH {P}": "project-settings",
    f"DELETE {P}": "cloud-project",
    f"PATCH {P}/budget": "costs",
    f"PATCH {P}/quota": "cloud-project",
    "PATCH /me": "profile",
    "POST /tokens": "tokens",
    "DELETE /tokens/{ref}": "revoke-token",
    "DELETE /sessions/{ref}": "end-session",
    "POST /notifications/seen": "notifications",
    "POST /quota-requests/{ref}/approve": "answer-quota-request",
    "POST /quota-requests/{ref}/decline": "answer-quota-request",
    "POST /volume-types": "volume-types",
    "POST /hosts/{ref}/drain": "drain-host",
    "POST /hosts/{ref}/drain/cancel": "cancel-drain",
    "PATCH /volume-types/{ref}": "volume-type",
    "DELETE /volume-types/{ref}": "delete-volume-type",
    "POST /flavors": "flavors",
    "PATCH /flavors/{ref}": "flavor",
    "DELETE /flavors/{ref}": "delete-flavor",
    "PATCH /hosts/{ref}": "host-settings",
    "DELETE /hosts/{ref}": "change-host",
    "POST /hosts/{ref}/cordon": "change-host",
    "POST /hosts/{ref}/declare-lost": "declare-lost",
    "POST /hosts/{ref}/enable": "change-host",
    "POST /hosts/join-tokens": "new-host",
    "DELETE /hosts/join-tokens/{ref}": "revoke-join-token",
    "POST /users": "users",
    "PATCH /users/{ref}": "user",
    "DELETE /users/{ref}": "user",
    "DELETE /users/{ref}/second-factor": "reset-second-factor",
    "POST /checks/{ref}/repair": "repair",
}  # fmt: skip


BODIES: dict[str, dict[str, Any]] = {
    "clone": {"name": "copy"},
    "snapshot": {"name": "may"},
    "resize": {"flavor": "large", "restart": True},
    "reset-password": {"password": "correct horse"},
    "attach-nic": {"network": "more"},
    "detach-nic": {"port": "nic"},
    "attach-volume": {"volume": "free"},
    "detach-volume": {"volume": "held"},
    "insert-cd": {"image": "installer"},
}
VOLUMES = {verb: BODIES[verb] for verb in ("attach-volume", "detach-volume")}
FOR_MANY = {
    "clone": {},
    "snapshot": {},
    "resize": BODIES["resize"],
    "reset-password": {"password": "correct horse"},
    "attach-nic": {"network": "more"},
    "detach-nic": {"network": "default"},
    **VOLUMES,
    "insert-cd": {"image": "installer"},
}
BY_LOOKING = {"console", "notifications", "image"}  # a console is opened, what is new has been seen, a file is sent
STATES = ("running", "stopped", "suspended", "paused", "gone")  # the last is on no host
every_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)


def urls(patterns: Iterable[Any] = pages) -> Iterator[URLPattern]:
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            yield pattern
        else:
            yield from urls(pattern.url_patterns)


def changes() -> Iterator[str]:
    for path, methods in document()["paths"].items():
        for method in methods:
            if method != "get":
                yield f"{method.upper()} {path.removeprefix('/api/v1')}"


def test_every_change_of_the_api_has_its_place_on_the_dashboard():
    assert set(changes()) == set(WHERE)


@pytest.mark.parametrize("name", sorted(set(WHERE.values())))
def test_the_place_takes_changes(name):
    [view] = {pattern.callback.view_class for pattern in urls() if pattern.name == name}
    assert hasattr(view, "post") or name in BY_LOOKING


def bring(world, verb: Verb, *, possible: bool) -> str:
    """Bring the instance into the first state in which the verb is possible, or is refused; return why it is."""
    for state in STATES:
        world.settle(world.instance, state)
        Machine.objects.filter(seen="gone").delete()
        [shown] = rows.instances_of(world.project)
        if possible and not (why_not := actions_for(shown, role=Role.MEMBER)[verb.name].why_not):
            return why_not
        if not possible and (why_not := verb.why_not(shown)):
            return why_not
    raise AssertionError(f"{verb.name} is never {'possible' if possible else 'refused'}")


@pytest.fixture(autouse=True)
def parts(request):
    """A NIC and a volume of the instance, another network, volume and flavor, and an ISO."""
    if "world" in request.fixturenames:
        world = request.getfixturevalue("world")
        factories.flavor("large", vcpus=2)
        for name in ("default", "more"):
            if not world.project.networks.filter(name=name).exists():
                networks.create(project=world.project, actor=ALICE, name=name)
        holder = Holder("instance", world.instance.pk, 0, "web")
        default = world.project.networks.get(name="default")
        ports.create(network=default, actor=ALICE, name="nic", holder=holder, security_groups=[])
        for host in Host.objects.all():
            host.capabilities |= {"volumes": {"layers": True}, "images": {"capture": True}}
            host.save(update_fields=["capabilities"])
        for name in ("free", "held"):
            volumes.create(project=world.project, actor=ALICE, name=name, size_gib=1)
        iso = {"role": "cdrom", "sha256": "c" * 64, "size": 1, "format": "raw"}
        installer = factories.image("installer", project=world.project, files=[iso])
        verb = request.node.callspec.params["verb"]
        if verb.name == "eject-cd":
            Instance.objects.filter(pk=world.instance.pk).update(cd=installer, cd_drive=True)
        if BODIES.get(verb.name, {}).get("volume") != "held":
            return
        held = world.project.volumes.get(name="held")
        attaching.attach(volume=held, holder=attaching.Holder("instance", world.instance.pk, "web"), actor=ALICE)


def begun(verb: Verb, instance: Instance) -> bool:
    """Whether it is under way, told of by an event."""
    live = Operation.objects.filter(subject_id=instance.pk, finished_at=None, kind=verb.workflow.kind)
    events = Event.objects.filter(subject_id=str(instance.pk), action=f"compute.instance.{verb.name}")
    return (live.count(), events.count()) == (1, 1)


def call(verb: Verb) -> str:
    return "projects/demo/instances/web" + ("" if verb.method == "DELETE" else f"/{verb.name}")


@every_verb
@pytest.mark.django_db
def test_its_page_does_it(verb, page_of, world, member):
    bring(world, verb, possible=True)
    here, mia = f"/projects/demo/instances/{world.instance.pk}/{verb.name}", page_of(member)
    assert f"{verb.label} web?" in mia.get(here).content.decode()
    assert mia.post(here, BODIES.get(verb.name, {})).status_code == 303
    assert begun(verb, world.instance)


@every_verb
@pytest.mark.django_db
def test_the_api_does_it(verb, api, world, member):
    bring(world, verb, possible=True)
    method = getattr(api.as_(member), verb.method.lower())
    assert method(call(verb), *([BODIES.get(verb.name, {})] if verb.method == "POST" else [])).status_code == 202
    assert begun(verb, world.instance)


@every_verb
@pytest.mark.django_db
def test_it_is_done_for_many(verb, api, page_of, world, member):
    bring(world, verb, possible=True)
    asked = page_of(member).get(f"/projects/demo/instances/selected?verb={verb.name}&item={world.instance.pk}")
    assert f"{verb.label} web?" in asked.content.decode()
    answer = api.as_(member).post(
        "projects/demo/instance-actions", {"verb": verb.name, "instances": ["web"], **FOR_MANY.get(verb.name, {})}
    )
    assert answer.json()["items"][0]["operation"]["kind"] == verb.workflow.kind
    assert begun(verb, world.instance)


@pytest.mark.parametrize("verb", [verb for verb in VERBS.values() if verb.why_not is not NEVER], ids=lambda it: it.name)
@pytest.mark.django_db
def test_its_refusal_is_in_the_words_of_its_button(verb, api, page_of, world, member):
    words = bring(world, verb, possible=False)
    answer = getattr(api.as_(member), verb.method.lower())(call(verb), BODIES.get(verb.name, {}))
    assert (answer.status_code, answer.json()["detail"]) == (409, re.sub("^It ", "web ", words))
    assert words in page_of(member).get(f"/projects/demo/instances/{world.instance.pk}").content.decode()


@every_verb
def test_it_is_written_of(verb):
    assert re.search(rf"^\| `{verb.name}`" if verb.method == "POST" else rf"`{verb.method}`", DOCS, re.MULTILINE)
    assert f"({', '.join(VERBS)})" in " ".join(DOCS.split())
    assert verb.icon in PATHS
    assert verb.asks or verb.says_for_many, "its dialog for many is empty"
    assert verb.taken_back_by in {"", *VERBS}


@pytest.mark.parametrize("work", WORK, ids=lambda work: work.workflow.kind)
def test_its_work_has_words(work):
    assert (work.workflow.kind in words.OPERATIONS, work.name in words.VERBS) == (True, True)
    assert set(steps_of(work.workflow.kind)) <= words.STEPS.keys()
    assert not work.status or (work.status in STATUSES and tone(work.status) == "busy")
