"""Launching, on one page: what is chosen is tried out in a dry run all the while, so that nothing surprises later."""

import random
from collections import Counter
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud import transactions
from cloud.api.translate import problem_of
from cloud.hosts.models import Host
from cloud.pages import forms, words
from cloud.pages.base import FormPage
from cloud.problems import Fault, Invalid, Problem
from cloud.tenancy import quota
from cloud.tenancy.models import Role
from compute import keypairs, services, user_data
from compute import logins as ways_in
from compute.api.bodies import MAX_AT_ONCE
from compute.api.keypairs import KeyPairForm
from compute.api.launching import LaunchForm
from compute.models import Flavor, Instance, KeyPair, RestartPolicy
from compute.networking import MAX_NICS
from compute.pages import disks, logins, nics
from compute.pages.logins import Launched
from compute.pages.rows import RESTART_POLICIES
from compute.volumes import MAX_VOLUMES, held_by
from storage.models import Image
from storage.services import choices_of

FIRST_WORDS = (
    "amber brave calm clear cosy eager early fair fresh gentle keen light lucky mellow quiet rapid sunny tidy".split()
)
SECOND_WORDS = (
    "badger beaver crane finch fox hare heron ibis kite lark lynx otter owl robin stoat swift tern wren".split()
)


# Those beside which faults are told while one fills the form in.
LIVE_FIELDS = (
    "name", "count", "image", "flavor", "login", "keypairs", "new_key_name", "new_key_public_key", "password",
    "networks", "security_groups", "volumes", "boot_from", "user_data", "labels", "restart_policy", "hypervisor",
)  # fmt: skip


def suggest_name() -> str:
    return f"{random.choice(FIRST_WORDS)}-{random.choice(SECOND_WORDS)}"  # noqa: S311


class Launch(FormPage):
    """The form, and what becomes of it."""

    template = "compute/instances/launch.html"
    section = "instances"
    help = "instances#launching"
    role = Role.VIEWER

    def fill(self) -> dict[str, Any]:
        images = choices_of(self.project)
        flavors = list(Flavor.objects.filter(enabled=True).order_by("memory_mib", "vcpus", "name"))
        left = quota.usage(self.project)
        lacks = {flavor.pk: lacking(flavor, left) for flavor in flavors}
        offered, given = nics.choices(self.project), self.request.POST or self.request.GET
        return {
            "images": images,
            "flavors": flavors,
            "keypairs": list(KeyPair.objects.filter(project=self.project).order_by("name")[:200]),
            "usage": left,
            "policies": RESTART_POLICIES,
            "most_at_once": MAX_AT_ONCE,
            "hosts": list(Host.objects.order_by("name").only("name")[:200]) if self.scope.is_cloud_admin else [],
            "lacks": lacks,
            **offered,
            "nics": nics.rows(given, offered),
            "max_nics": MAX_NICS,
            **disks.choices(self.project),
            "disks": disks.rows(given),
            "max_volumes": MAX_VOLUMES,
            "asks_for_disks": bool(disks.read(given)),
            **self.choose(images, flavors, lacks),
        }

    def choose(self, images: list[Any], flavors: list[Any], lacks: dict[Any, str]) -> dict[str, str]:
        """What is chosen: as asked, otherwise the lightest image, of the cloud's if it has any, as an image of a data
        volume is light and does not boot; and the smallest flavor that fits it and the quota."""
        given = self.request.POST or self.request.GET
        image = next((one for one in images if given.get("image") in (one.reference, one.name, str(one.pk))), None)
        image = image or min(images, key=preference, default=None)
        if image is not None:
            flavors = [flavor for flavor in flavors if is_enough(flavor, image)] or flavors
        flavor = next((one for one in flavors if not lacks[one.pk]), flavors[0] if flavors else None)
        return {
            "chosen_image": image.reference if image else given.get("image", ""),
            "chosen_flavor": given.get("flavor") or (flavor.name if flavor else ""),
        }

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        filled = self.fill()
        login = logins.initial(filled["keypairs"], self.scope.user.username, request.session)
        values: dict[str, Any] = {
            "name": suggest_name(),
            "count": 1,
            "image": filled["chosen_image"],
            "flavor": filled["chosen_flavor"],
            "wanted_power": "on",
            "restart_policy": RestartPolicy.ON_CRASH,
            "security_groups": ["default"],
            "open_ssh": "on" if filled["network_choices"] else "",
            **login,
            **request.GET.dict(),
        }
        body = {name: values[name] for name in ("name", "image", "flavor") if values[name]}
        ready = self.may(Role.MEMBER) and len(body) == 3
        body |= {"keypairs": login["keypairs"]} if login["keypairs"] else {}
        body |= {"generate_password": True} if login["with_password"] else {}
        body |= {"open_ssh": True} if values["open_ssh"] else {}
        preview = self.preview(body) if ready else {}
        return self.show({**filled, "values": values, **preview, **self.calls(body)})

    def read(self) -> dict[str, Any]:
        post = self.request.POST
        body: dict[str, Any] = forms.required(post, "name", "image", "flavor") | logins.read(post)
        if post.get("user_data", "").strip():
            body["user_data"] = post["user_data"].replace("\r\n", "\n")
        body |= nics.read(post) | disks.read(post)
        if disks.brings_image(body):
            del body["image"]
        if labels := forms.labels(post):
            body["labels"] = labels
        if "wanted_power" not in post:
            body["wanted_power"] = "stopped"
        if post.get("restart_policy", RestartPolicy.ON_CRASH) != RestartPolicy.ON_CRASH:
            body["restart_policy"] = post["restart_policy"]
        if post.get("count", "").strip() not in ("", "1"):
            body |= forms.whole(post, "count")
        return {**body, **forms.texts(post, "hypervisor", "host")}

    def new_key(self) -> dict[str, Any] | None:
        return logins.new_key(self.request.POST)

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        key = self.new_key()
        if "without_login" not in self.request.POST and (words := logins.warnings(body, key)):
            raise Invalid(errors=[Fault("/login", *words)])
        logins.remember(body, self.request.session)
        makes_secret = "generate_password" in body or (key is not None and "public_key" not in key)
        return self.mutate(
            lambda: self.launch(body, key),
            body={**body, "new_key": key},
            to=lambda made: self.where(made.instances),
            done=lambda made: f"{spoken([instance.name for instance in made.instances])} being launched.",
            secret=self.show_secret if makes_secret else None,
            again=(lambda: self.show_again(body)) if "generate_password" in body else None,
        )

    def generated_password(self, body: dict[str, Any]) -> str:
        """The same one for the same form, so that sending it twice does not lose it."""
        return ways_in.generated(self.scope.caller, self.request.POST.get("form_key", ""), body["name"])

    def show_again(self, body: dict[str, Any]) -> HttpResponse | None:
        """The password that was generated for this form, as long as the instance has it."""
        names = services.numbered(body["name"], body.get("count", 1))
        launched = list(Instance.objects.filter(project=self.project, name__in=names).order_by("created_at", "pk"))
        password = self.generated_password(body)
        if not launched or not ways_in.matches(password, launched[0].password_hash):
            return None
        return self.show_secret(Launched(launched, password=password))

    def where(self, launched: list[Instance]) -> str:
        """The page of what was launched: the instance's, or the list with just these."""
        if len(launched) == 1:
            return reverse("instance", args=[self.project.name, launched[0].pk])
        stem = launched[0].name.removesuffix("1")
        return f"{reverse('instances', args=[self.project.name])}?q={stem}"

    def launch(self, body: dict[str, Any], key: dict[str, Any] | None, *, dry: bool = False) -> Launched:
        """Check everything before anything is done, so that all faults are named together."""
        faults, wish, key_wish = [], {}, {}
        try:
            wish = self.validate(LaunchForm, body)
        except Exception as error:
            faults += problem_of(error).errors
        if key is not None:
            try:
                key_wish = self.validate(KeyPairForm, key)
            except Exception as error:
                faults += [logins.of_key(fault) for fault in problem_of(error).errors]
        if faults:
            raise Invalid(errors=faults)
        actor, made, secret = self.scope.actor, None, None
        if key_wish:
            try:
                made, secret = keypairs.create(project=self.project, actor=actor, **key_wish)
            except Exception as error:
                problem = problem_of(error)
                problem.errors = [logins.of_key(fault) for fault in problem.errors]
                raise problem from error
            wish["keypairs"] = [*wish.get("keypairs", []), made]
        generated = self.generated_password(body) if wish.pop("generate_password", False) else None
        wish |= {"password": generated} if generated else {}
        launched = services.launch_many(project=self.project, actor=actor, dry_run=dry, **wish)
        return Launched(launched, made, secret, generated)

    def show_secret(self, made: Launched) -> HttpResponse:
        context = {"made": made, "there": self.where(made.instances)}
        return self.show(context, template="compute/instances/secrets.html")

    # The preview

    def preview(self, body: dict[str, Any]) -> dict[str, Any]:
        """What launching it would come to: the same services in the same transaction, rolled back."""

        def attempt() -> dict[str, Any]:
            before = quota.usage(self.project)
            launched = self.launch(body, self.new_key(), dry=True).instances
            placed = [instance for instance in launched if instance.host_id is not None]
            first, price = (placed or launched)[0], launched[0].flavor.price_per_hour
            return {
                "preview": {
                    "warnings": [
                        *logins.warnings(body, self.new_key()),
                        *user_data.not_checked(body.get("user_data", "")),
                    ],
                    "names": [instance.name for instance in launched],
                    "placed": len(placed),
                    "waiting": len(launched) - len(placed),
                    "decision": first.placement,
                    "nics": nics.planned(launched[0]) if len(launched) == 1 else [],
                    "volumes": list(held_by(launched[0])) if launched[0].volume_wish else [],
                    "open_to": nics.open_to(launched[0]),
                    "hosts": self.hosts_of(placed) if self.scope.is_cloud_admin else [],
                    "price": price,
                    "price_of_all": price * len(launched),
                    "quota": [
                        {"kind": kind, "before": before[kind]["used"], **use}
                        for kind, use in words.ordered(quota.usage(self.project))
                        if use["used"] != before[kind]["used"]
                    ],
                }
            }

        try:
            return transactions.run(attempt, dry=True)
        except Exception as error:
            return {"preview_problem": problem_of(error)}

    @staticmethod
    def hosts_of(placed: list[Instance]) -> list[tuple[str, int]]:
        """How many would go where."""
        counts = Counter(str(instance.host_id) for instance in placed)
        return [(host.name, counts[str(host.pk)]) for host in Host.objects.filter(pk__in=list(counts)).order_by("name")]

    def calls(self, body: dict[str, Any]) -> dict[str, str]:
        path, body = f"projects/{self.project.name}/instances", logins.without_password(body)
        return {"curl": forms.as_curl("POST", path, body), "python": forms.as_python("POST", path, body)}

    def show_fault(self, problem: Problem) -> HttpResponse:
        body = self.read()
        context = {**self.fill(), "values": self.request.POST, "problem": problem, "preview_problem": problem}
        return self.show({**context, **self.calls(body)}, status=problem.status)


class Preview(Launch):
    """The preview alone, or without JavaScript the whole form with it."""

    partials = {"preview": "compute/instances/_preview.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().get(request, *args, **kwargs)

    def submit(self, body: dict[str, Any]) -> HttpResponse:
        context: dict[str, Any] = {**self.preview(body), **self.calls(body)}
        if self.request.headers.get("HX-Target") == "preview":
            context |= {"problem": context.get("preview_problem"), "live_fields": LIVE_FIELDS}
        else:
            context = {**self.fill(), "values": self.request.POST, "problem": context.get("preview_problem"), **context}
        return self.show(context)


def spoken(names: list[str]) -> str:
    """ "web is", "web-1 to web-5 are" """
    return f"{names[0]} is" if len(names) == 1 else f"{names[0]} to {names[-1]} are"


def preference(image: Image) -> tuple[bool, bool, int]:
    return (image.size == 0, image.project_id is not None, image.size)


def is_enough(flavor: Flavor, image: Image) -> bool:
    """Whether it is as large as the image needs, and as the appliance that it came from was."""
    machine = image.found.get("machine") or {}
    least_memory = max(image.min_memory_mib, machine.get("memory_mib") or 0)
    is_large = flavor.disk_gib >= image.min_disk_gib and flavor.memory_mib >= least_memory
    return is_large and flavor.vcpus >= (machine.get("cpus") or 0)


def lacking(flavor: Flavor, usage: dict[str, Any]) -> str:
    """Why the quota does not allow one more of this flavor; empty when it does."""
    asked = {"instances": 1, "vcpus": flavor.vcpus, "memory_mib": flavor.memory_mib}
    short = [
        f"{words.kind(kind)}: {words.amount(kind, usage[kind]['left'])} left"
        for kind, more in asked.items()
        if kind in usage and usage[kind]["left"] is not None and usage[kind]["left"] < more
    ]
    return "; ".join(short)
