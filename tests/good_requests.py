"""For every operation of the API a request that succeeds: `World(cloud, caller).good("POST", "/api/v1/…/{ref}/stop")`.

Tests that are about all operations, or all changes, begin here. An operation without a line fails in test_schema_holds.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from allauth.mfa.models import Authenticator
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now
from django.utils import timezone

from cloud.events.services import SYSTEM, Actor
from cloud.hosts import services as hosts
from cloud.hosts.models import HostPulse
from cloud.operations import engine
from cloud.operations.models import Check, Operation
from cloud.tenancy import quota_requests
from cloud.tenancy.models import BrowserSession, Token, User
from compute import services
from compute.drain import drain
from compute.models import Instance
from network.models import Port
from storage.models import Image, Volume
from tests import factories
from tests.clouds import ROUNDS, SmallCloud, iso_on
from tests.network import good_requests as network
from tests.storage import good_requests as storage
from tests.storage import image_requests as images
from tests.storage.clouds import kind_of, second

API = "/api/v1/"
INSTANCE = f"/{API.strip('/')}/projects/{{project}}/instances/{{ref}}"
CHANGES = ("post", "patch", "delete")


@dataclass(frozen=True)
class Good:
    """The variables of a request's path, and its body."""

    path: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def address(self, route: str) -> str:
        return route.format(**self.path)

    def json(self) -> str:
        return json.dumps(self.body)


class World:
    """A small cloud whose only caller, an admin of the cloud, may do everything; what is referred to is made then."""

    def __init__(self, cloud: SmallCloud, caller: User) -> None:
        self.cloud, self.caller, self.project = cloud, caller, cloud.project
        self.actor = Actor(caller.username, caller.pk)
        self.made: dict[str, str] = {}  # by route

    def good(self, method: str, route: str) -> Good:
        """The request that succeeds just now. Raises KeyError where this file has no line for it."""
        variables = {}
        if "{project}" in route:
            empty = route.endswith("{project}")
            variables["project"] = factories.project().name if empty else self.project.name
        if "{group}" in route:
            variables["group"] = network.group(self)
        if "{ref}" in route:
            variables["ref"] = self.reference(route)
        words = f"{method.upper()} {route.removeprefix(API).removeprefix('projects/{project}/').replace('/{ref}', '')}"
        return Good(variables, BODIES[words](self) if words in BODIES else {})

    def reference(self, route: str) -> str:
        """What a route's {ref} can be: an id or a name of something that is there, the same each time."""
        if route not in self.made:
            resource, _, verb = route.removeprefix(API).removeprefix("projects/{project}/").partition("/{ref}")
            make = VERBS_NEED.get(f"{resource}{verb}") or REFERENCES[resource]
            self.made[route] = str(make(self))
        return self.made[route]

    def instance(self, *verbs: Callable[..., Any]) -> Instance:
        """One that runs, to which these verbs have then been done."""
        instance = self.cloud.launch()
        self.cloud.settle(advance_at_once)
        for verb in verbs:
            self.cloud.do(verb, instance)
            self.cloud.settle(advance_at_once)
        return instance

    def operation(self) -> Operation:
        """One that is under way."""
        instance = self.cloud.launch()
        return Operation.objects.get(subject_id=instance.pk)

    def join_token(self) -> str:
        with transaction.atomic():
            return str(hosts.make_join_token(actor=SYSTEM)[0].pk)

    def quota_request(self) -> str:
        limits = {"vcpus": self.project.quota.limits["vcpus"] + 8}
        with transaction.atomic():
            return str(quota_requests.ask(project=self.project, actor=self.actor, limits=limits).pk)

    def saved_view(self) -> str:
        views = self.caller.saved_views
        return str(views.create(project=self.project, name=factories.name("view"), query="status=running").pk)

    def session(self) -> str:
        store = SessionStore()
        store.create()
        return str(
            BrowserSession.objects.create(
                user=self.caller,
                session_key=store.session_key,
                address="192.0.2.1",
                browser="Firefox",
                proof=self.caller.get_session_auth_hash(),
            ).pk
        )

    def token(self) -> str:
        factories.token(self.caller)
        return str(Token.objects.filter(user=self.caller).latest("created_at").pk)

    def user_with_device(self) -> str:
        user = factories.user()
        Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={})
        return user.username

    def check(self) -> str:
        """A promise that is broken, and can be put right."""
        breach = {
            "words": "1 vCPU is called free", "subject": "node", "since": timezone.now().isoformat(),
            "repairable": True, "advice": "",
        }  # fmt: skip
        return str(Check.objects.create(name="drift", code="I6", promise="it holds", count=1, breaches=[breach]).pk)

    def keypair(self) -> str:
        name = factories.name("key")
        self.project.keypairs.create(name=name, public_key="ssh-ed25519 AAAA", fingerprint=f"SHA256:{name}")
        return name


def advance_at_once(operation_id: UUID) -> None:
    """`engine.advance` for a test that is one transaction, whose `now()` stands still: nothing would become due."""
    Operation.objects.filter(pk=operation_id).update(due_at=RawSQL("now()", []))
    engine.advance(operation_id)


def finish(subject_type: str) -> None:
    """Such a test's way to the end of all that is under way with these resources, and waits for no host."""
    live = Operation.objects.filter(subject_type=subject_type, finished_at=None)
    for _ in range(ROUNDS):
        for operation_id in live.values_list("pk", flat=True):
            advance_at_once(operation_id)
    assert not live.exists()


def _launch(world: World) -> dict[str, Any]:
    return {"name": factories.name("web"), "flavor": world.cloud.flavor.name, "image": world.cloud.image.name}


def _with_nic(world: World) -> str:
    """An instance with a NIC on a network of its own."""

    def attach(*, instance: Instance, actor: Actor) -> object:
        return services.attach_nic(instance=instance, actor=actor, network=network.network(world))

    return str(world.instance(attach).name)


def _its_nic(world: World) -> dict[str, Any]:
    instance = Instance.objects.get(project=world.project, name=world.made[f"{INSTANCE}/detach-nic"])
    return {"port": Port.objects.get(holder_id=instance.pk, network__name__startswith="net").name}


def _beside_volumes(world: World) -> str:
    """An instance on a host that has volumes."""
    kind_of(world.cloud)
    return str(world.instance().name)


def _beside_images(world: World) -> str:
    """An instance that stands still, on a host that makes images."""
    instance = world.instance(services.stop)
    assert instance.host is not None
    instance.host.capabilities["images"] = {"import": ["qcow2"], "export": [], "capture": True}
    instance.host.save(update_fields=["capabilities"])
    return str(instance.name)


def _beside_a_host(world: World) -> str:
    """An instance that stands still, and another host that it can move to."""
    kind_of(world.cloud)
    instance = world.instance(services.stop)
    second(world.cloud)
    return str(instance.name)


def _silent(world: World) -> str:
    """A host that is not heard of."""
    host = factories.host()
    HostPulse.objects.filter(host=host).update(seen_at=Now() - timedelta(hours=1))
    return str(host.name)


def _draining(world: World) -> str:
    """A host that is being emptied."""
    host = factories.host()
    with transaction.atomic():
        drain(host=host, actor=world.actor)
    return str(host.name)


def _with_volume(world: World) -> str:
    def attach(*, instance: Instance, actor: Actor) -> object:
        return services.attach_volume(instance=instance, actor=actor, volume=storage.volume(world))

    kind_of(world.cloud)
    instance = world.instance(attach)
    world.cloud.settle(advance_at_once)
    return str(instance.name)


def _beside_an_iso(world: World) -> str:
    """An instance that stands still, and an ISO."""
    factories.image(project=world.project, files=[iso_on(world.cloud.node)])
    return str(world.instance(services.stop).name)


def _with_cd(world: World) -> str:
    """An instance that stands still, with an ISO in its drive."""

    def insert(*, instance: Instance, actor: Actor) -> object:
        iso = factories.image(project=world.project, files=[iso_on(world.cloud.node)])
        return services.insert_cd(instance=instance, actor=actor, image=iso)

    instance = world.instance(services.stop)
    world.cloud.do(insert, instance)
    world.cloud.settle(advance_at_once)
    return str(instance.name)


def _its_volume(world: World) -> dict[str, Any]:
    instance = Instance.objects.get(project=world.project, name=world.made[f"{INSTANCE}/detach-volume"])
    return {"volume": Volume.objects.get(attachments__holder_id=instance.pk).name}


# What {ref} means below a collection
REFERENCES: Mapping[str, Callable[[World], object]] = {
    "checks": World.check,
    "flavors": lambda world: factories.flavor().name,
    "hosts": lambda world: factories.host().name,
    "hosts/join-tokens": World.join_token,
    "instances": lambda world: world.instance().name,
    "keypairs": World.keypair,
    "members": lambda world: factories.member(world.project).username,
    "operations": lambda world: world.operation().pk,
    "quota-requests": World.quota_request,
    "saved-views": World.saved_view,
    "sessions": World.session,
    "tokens": World.token,
    "users": lambda world: factories.user().username,
    **network.REFERENCES,
    **storage.REFERENCES,
    **images.REFERENCES,
}
# Where a verb needs another state than that
VERBS_NEED: Mapping[str, Callable[[World], object]] = {
    "instances/start": lambda world: world.instance(services.stop).name,
    "instances/restore": lambda world: str(world.instance(services.discard).pk),
    "instances/purge": lambda world: str(world.instance(services.discard).pk),
    "instances/resume": lambda world: world.instance(services.pause).name,
    "instances/create-image": _beside_images,
    "instances/snapshot": _beside_images,
    "instances/move": _beside_a_host,
    "hosts/drain/cancel": _draining,
    "hosts/declare-lost": _silent,
    "instances/resize": lambda world: world.instance(services.stop).name,
    "instances/detach-nic": _with_nic,
    "instances/attach-volume": _beside_volumes,
    "instances/detach-volume": _with_volume,
    "instances/insert-cd": _beside_an_iso,
    "instances/eject-cd": _with_cd,
    "users/second-factor": World.user_with_device,
    **network.VERBS_NEED,
    **storage.VERBS_NEED,
    **images.VERBS_NEED,
}
BODIES: Mapping[str, Callable[[World], dict[str, Any]]] = {
    "POST flavors": lambda world: {"name": "large", "vcpus": 4, "memory_mib": 4096, "disk_gib": 20},
    "PATCH flavors": lambda world: {"name": "larger"},
    "POST hosts/declare-lost": lambda world: {"confirm": world.made["/api/v1/hosts/{ref}/declare-lost"]},
    "PATCH hosts": lambda world: {"labels": {"rack": "7"}},
    "POST instance-actions": lambda world: {"verb": "stop", "instances": [world.instance().name]},
    "POST instances": _launch,
    "PATCH instances": lambda world: {"labels": {"tier": "web"}},
    "POST instances/attach-nic": lambda world: {"network": network.network(world).name},
    "POST instances/detach-nic": _its_nic,
    "POST instances/attach-volume": lambda world: {"volume": storage.volume(world).name},
    "POST instances/detach-volume": _its_volume,
    "POST instances/resize": lambda world: {"flavor": factories.flavor(vcpus=2).name},
    "POST instances/insert-cd": lambda world: {
        "image": Image.objects.filter(project=world.project, files__contains=[{"role": "cdrom"}])[0].name
    },
    "POST instances/snapshot": lambda world: {"name": factories.name("may")},
    "POST instances/clone": lambda world: {"name": factories.name("copy")},
    "POST instances/diagnose-connection": lambda world: {"port": 22},
    "POST instances/create-image": lambda world: {"name": factories.name("image")},
    "POST instances/console": lambda world: {"kind": "serial"},
    "POST keypairs": lambda world: {"name": "laptop"},
    "PATCH keypairs": lambda world: {"labels": {"owner": "mia"}},
    "PATCH me": lambda world: {"full_name": "Mia"},
    "POST members": lambda world: {"user": factories.user().username, "role": "member"},
    "PATCH members": lambda world: {"role": "viewer"},
    "POST projects": lambda world: {"name": factories.name("project")},
    "PATCH projects/{project}": lambda world: {"description": "of the tests"},
    "PATCH budget": lambda world: {"monthly": "50.00"},
    "PATCH quota": lambda world: {"vcpus": 4},
    "POST quota-requests": lambda world: {"vcpus": 4096},
    "POST quota-requests/decline": lambda world: {"note": "not now"},
    "POST saved-views": lambda world: {"name": "what runs", "query": "status=running"},
    "PATCH saved-views": lambda world: {"name": "all that runs"},
    "POST tokens": lambda world: {"name": "ci", "expires_at": (timezone.now() + timedelta(hours=1)).isoformat()},
    "POST users": lambda world: {"username": factories.name("user")},
    "PATCH users": lambda world: {"full_name": "Ursula"},
    **network.BODIES,
    **storage.BODIES,
    **images.BODIES,
}
