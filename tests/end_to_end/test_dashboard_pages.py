"""Every page there is, in a real browser: it fits, everybody can use it, and nothing that somebody wrote is run."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now

from cloud.events.models import Event
from cloud.events.services import Actor
from cloud.hosts.models import Host, HostPulse, JoinToken
from cloud.operations.models import Check, Operation
from cloud.tenancy.models import (
    BrowserSession,
    Membership,
    Project,
    QuotaRequest,
    Role,
    SavedView,
    Token,
    User,
)
from compute import services
from compute.models import ConsoleLog, Flavor, Instance, KeyPair, Machine
from network.models import (
    AddressPool,
    FloatingIP,
    Network,
    Port,
    PortForward,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from storage.models import Image
from tests import factories
from tests.cloud.dashboard import networking, storing
from tests.cloud.dashboard.test_every_page import SHOWN, fill_in
from tests.end_to_end.browsers import DESK, PHONE, TABLET, Visitor

# Not marked `browser`: these keep a processor busy, as light tests do (tests/scheduling.py).
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

I = "/projects/demo/instances/{instance}"  # noqa: E741
BESIDE = (
    f"{I}/console?kind=vnc", f"{I}/stop", f"{I}/delete", f"{I}/reset-password", f"{I}/resize", "/palette?q=web",
    "/palette?q=api", "/cloud/operations?outcome=all", "/nonsense", "/projects/nonsense",
    "/help/operating",
)  # fmt: skip
PAYLOAD = '"><img src=x onerror=alert(1)>'  # short enough for every column
# Of a host with all that ours have.
WAYS = ["qemu/riscv64", "qemu/riscv64/tcg", "qemu/x86_64", "qemu/x86_64/kvm", "qemu/x86_64/tcg", "unicorn/riscv64/tcg"]
LOAD = {"cpu_percent": 100, "memory_mib": 21_000, "memory_total_mib": 24_000}
LONG = "a-long-name-" + 51 * "x"


@pytest.fixture
def known(cloud) -> dict[str, Any]:
    """A cloud with one of everything, in more than one state, by the names that the paths of pages have for it."""
    keypair = KeyPair.objects.create(
        project=cloud.project, name="laptop", public_key="ssh-ed25519 AAAA", fingerprint=f"SHA256:{43 * 'w'}"
    )
    instance = cloud.launch(name=LONG, labels={"tier": "f"}, user_data="#!/bin/sh\n", keypairs=[keypair])
    cloud.settle()
    cloud.launch(name="waiting")
    broken = cloud.launch(name="broken")
    Machine.objects.filter(instance=broken).update(seen="broken", seen_problem="No space left on device")
    ConsoleLog.objects.create(instance=instance, content=b"Linux version 6.1\nREADY a-very-long-name 2.31\n")
    member = factories.user("nia")
    Membership.objects.create(project=cloud.project, user=member, role=Role.VIEWER)
    QuotaRequest.objects.create(
        project=cloud.project, kinds=["vcpus"], limits={"vcpus": 99}, before={"vcpus": 20}, requested_by="mia"
    )
    SavedView.objects.create(project=cloud.project, user=User.objects.get(username="root"), name="mine", query="q=web")
    factories.token(User.objects.get(username="root"))
    Host.objects.filter(pk=instance.host_id).update(offers=WAYS)
    HostPulse.objects.filter(host=instance.host_id).update(load=LOAD)
    HostPulse.objects.filter(host=factories.host("silent")).update(load=LOAD, seen_at=Now() - timedelta(minutes=59))
    return {
        "project": "demo", "ident": cloud.project.pk, "instance": instance.pk, "host": instance.host_id,
        "flavor": cloud.flavor.pk, "image": cloud.image.pk, "keypair": keypair.pk, "user": member.pk,
        "volume_type": factories.volume_type().pk, "guide": "networks",
        **networks_and_volumes_of(cloud),
    }  # fmt: skip


def networks_and_volumes_of(cloud) -> dict[str, Any]:
    with transaction.atomic():
        return networking.one_of_each(cloud.project) | storing.one_of_each(cloud.project)


def paths(known: dict[str, Any]) -> list[str]:
    return [*(fill_in(route, known) for route in SHOWN), *(path.format(**known) for path in BESIDE)]


SIZES = (PHONE, TABLET, DESK)
IN_THE_DARK_TOO = (PHONE, DESK)
PARTS = 3  # of all pages, for workers that run side by side


def faults_at_every_size(visitor: Visitor, path: str) -> list[str]:
    """One visit of a page: the window's size and the colours change while it is open, as they do for its readers."""
    page = visitor.page
    page.set_viewport_size(SIZES[0])
    page.goto(path)
    faults = []
    for size in SIZES:
        page.set_viewport_size(size)
        found = [*visitor.serious_faults(), *visitor.misfits()]
        if size in IN_THE_DARK_TOO:
            found += visitor.serious_faults_of_colour("dark")
            page.emulate_media(color_scheme="light")
        faults += [f"{path} at {size['width']}: {fault}" for fault in found]
    return faults


@pytest.mark.parametrize("part", range(PARTS))
def test_it_fits_and_has_no_serious_fault(visit, known, part):
    visitor: Visitor = visit(color_scheme="light", reduced_motion="reduce")
    faults = faults_at_every_size(visitor, "/sign-in") if part == 0 else []
    visitor.sign_in("root")
    for path in paths(known)[part::PARTS]:
        faults += faults_at_every_size(visitor, path)
    assert "\n".join(faults) == ""


def test_what_tenants_guests_and_hosts_write_is_never_run(visit, cloud, known):
    instance = Instance.objects.get(pk=known["instance"])
    with transaction.atomic():
        services.update(instance=instance, actor=Actor(PAYLOAD), labels={"b": PAYLOAD})
        JoinToken.objects.create(digest="x", created_by=PAYLOAD, expires_at=instance.created_at)
    visitor: Visitor = visit()
    page = visitor.sign_in("root")
    write_everywhere()
    for path in [*paths(known), f"/projects/demo/instances?q={PAYLOAD}", f"/palette?q={PAYLOAD}", f"{PAYLOAD}"]:
        answer = page.goto(path)
        assert answer.status < 500, path
        assert page.locator("img[src=x]").count() == 0, path
        assert visitor.complaints == [], path


def write_everywhere() -> None:
    """What a person, a guest or a host can have written, as it would be without any check on its way in."""
    Project.objects.update(description=PAYLOAD, labels={"a": PAYLOAD})
    User.objects.filter(username="nia").update(username=PAYLOAD)
    User.objects.update(full_name=PAYLOAD, email=PAYLOAD)
    BrowserSession.objects.update(browser=PAYLOAD)
    QuotaRequest.objects.update(reason=PAYLOAD, note=PAYLOAD, requested_by=PAYLOAD, decided_by=PAYLOAD)
    Token.objects.update(name=PAYLOAD)
    SavedView.objects.update(name=PAYLOAD, query=f"q={PAYLOAD}")
    Host.objects.exclude(name="silent").update(name=PAYLOAD, labels={"a": PAYLOAD}, quarantined=[PAYLOAD])
    for host in Host.objects.all():
        hypervisors = host.capabilities.get("hypervisors", {})
        hypervisors["qemu"] = {
            "version": PAYLOAD,
            "architectures": {"x86_64": {"accelerator": PAYLOAD, "kvm": PAYLOAD}},
        }
        jail = {"uid": False, "missing": {"uid": PAYLOAD}}
        Host.objects.filter(pk=host.pk).update(
            capabilities={
                **host.capabilities,
                "kernel": PAYLOAD,
                "cpu_model": PAYLOAD,
                "jail": jail,
                "hypervisors": hypervisors,
            }
        )
    HostPulse.objects.update(agent_version=PAYLOAD)
    Image.objects.update(name=PAYLOAD, description=PAYLOAD, os=PAYLOAD, version=PAYLOAD, labels={"a": PAYLOAD})
    Flavor.objects.update(name=PAYLOAD, labels={"a": PAYLOAD})
    Port.objects.update(holder_name=PAYLOAD, labels={"a": PAYLOAD})
    SecurityGroup.objects.update(name=PAYLOAD, description=PAYLOAD, labels={"a": PAYLOAD})
    SecurityGroupRule.objects.update(description=PAYLOAD)
    AddressPool.objects.update(name=PAYLOAD, labels={"a": PAYLOAD})
    for kind in (Network, Subnet, Router, FloatingIP, PortForward):
        kind.objects.filter(pk=kind.objects.first().pk).update(name=PAYLOAD, labels={"a": PAYLOAD})
    KeyPair.objects.update(name=PAYLOAD, labels={"a": PAYLOAD}, public_key=PAYLOAD, fingerprint=PAYLOAD)
    Instance.objects.update(
        labels={"a": PAYLOAD, PAYLOAD: "b"}, user_data=PAYLOAD, created_by=PAYLOAD, kernel_command_line=PAYLOAD
    )
    Machine.objects.update(seen_problem=PAYLOAD, seen_facts={"address": PAYLOAD, "accelerator": PAYLOAD})
    Instance.objects.filter(name="broken").update(failed_reason=PAYLOAD, name=PAYLOAD)
    ConsoleLog.objects.update(content=f"\x1b]0;{PAYLOAD}\x07{PAYLOAD}\nREADY {PAYLOAD} 2.3\n".encode())
    Operation.objects.update(subject_name=PAYLOAD, reason=PAYLOAD, requested_by=PAYLOAD, progress_unit=PAYLOAD[:12])
    Check.objects.update(promise=PAYLOAD, problem=PAYLOAD, breaches=[{"subject": PAYLOAD, "words": PAYLOAD}], count=1)
    told = {"name": PAYLOAD, "labels": {"a": PAYLOAD}, "reason": PAYLOAD}
    with transaction.atomic():
        for event in Event.objects.order_by("-pk")[:20]:
            event.pk, event.subject_name, event.actor, event.before, event.after = None, PAYLOAD, PAYLOAD, told, told
            event.save(force_insert=True)
