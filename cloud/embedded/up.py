"""`./pileus up`: from a bare machine to a cloud with a virtual machine in it; again and again the same."""

import compileall
import hashlib
import json
import os
import secrets
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from cloud.embedded import environment, first_ssh, machine_host, system_packages
from cloud.embedded.accounts import service_account
from cloud.embedded.api import Api, wait_for_guest
from cloud.embedded.control_plane import ControlPlane, names
from cloud.embedded.errors import Trouble
from cloud.embedded.files import open_log, write_file
from cloud.embedded.folders import make_folders, one_command_at_a_time, require_space
from cloud.embedded.guests import described, first_image
from cloud.embedded.memory import Memory
from cloud.embedded.paths import TREE, Home
from cloud.embedded.processes import NETWORK
from cloud.embedded.screen import Screen, Step
from cloud.embedded.told import told_by_environment

USERS = ("admin", "demo")
FIRST_INSTANCE = "first"
FIRST_FLAVOR = "tiny"
GUEST_SECONDS = 180
HOST_SECONDS = 60
NETWORK_SECONDS = 15  # a heartbeat later at most


def up(home: Home) -> None:
    # Setting up the virtual environment counts, too.
    began = float(os.environ.get("PILEUS_BEGAN") or time.time())
    account = service_account()
    make_folders(home, account)
    with one_command_at_a_time(home), Screen() as screen:
        require_space(home)
        before = Memory.of(home)
        memory = told_by_environment(before)
        plane = ControlPlane(home, memory, account, screen)
        plane.choose_ports(before)
        memory.keep(home)
        with ThreadPoolExecutor() as side:
            packages = side.submit(ensure_packages, plane)
            image = side.submit(first_image, plane, packages)
            static = side.submit(plane.collect_static)
            plane.start_servers()
            credentials = furnish(plane, image)
            static.result()
        plane.start(names("control"))
        if not accepted(plane, credentials["admin"]["token"]):
            credentials = ensure_credentials(plane, image.result())
        with Api(memory.local_url, credentials["admin"]["token"]) as admin:
            ensure_host(plane, admin)
        vm = None
        if memory.first_instance is None and image.result():
            vm = launch_first(plane, image.result(), credentials["demo"]["token"])
        logins = None if memory.logins_shown else credentials
        memory.logins_shown = True
        memory.keep(home)
    print_summary(home, memory, logins, vm, time.time() - began)


def ensure_packages(plane: ControlPlane) -> None:
    """System packages, through apt where we are root; what cannot be done for want of others is said."""
    missing = system_packages.missing("up")
    if missing and os.geteuid() == 0:
        with plane.screen.step("System packages") as step:
            step.note = "apt installs " + " ".join(sorted({tool.package for tool in missing}))
            with open_log(plane.home.log / "apt.log") as log:
                missing = system_packages.install("up", output=log)
            step.result = "installed" if not missing else "incomplete (see log/apt.log)"
    if missing:
        plane.screen.say(f"  {system_packages.in_words(missing)}")
    if os.geteuid() == 0:
        # The processes are another user, who may not write the bytecode cache next to the sources.
        for package in environment.PROGRAM:
            compileall.compile_dir(TREE / package, quiet=2)


def furnish(plane: ControlPlane, image: Future[str]) -> dict[str, Any]:
    """Schema, users, flavors and image of today's program; skipped where all of it is as it was. Gives the logins."""
    memory, home = plane.memory, plane.home
    source = environment.source_fingerprint(*environment.PROGRAM)
    # A database of the user's own may be another one today, under the same address.
    known = memory.furnished.split() if home.credentials.exists() and not memory.database_url else []
    if known[:1] != [source]:
        plane.migrate()
    folder = image.result()
    version = hashlib.sha256(described(home, folder)).hexdigest() if folder else "none"
    if known == [source, version]:
        found: dict[str, Any] = json.loads(home.credentials.read_text())
        return found
    with plane.screen.step("Logins, flavors, image"):
        credentials = ensure_credentials(plane, folder)
    memory.furnished = f"{source} {version}"
    memory.keep(home)
    return credentials


def ensure_credentials(plane: ControlPlane, image_folder: str) -> dict[str, Any]:
    """Users, project, flavors and image as they must be; the logins in $PILEUS_HOME/credentials.json.

    The file is written when the users are there. Where it is missing, lost or not written yet, they get new passwords.
    """
    file = plane.home.credentials
    known = json.loads(file.read_text()) if file.exists() else {}
    wish = {
        who: known.get(who) or {"username": who, "password": secrets.token_urlsafe(15), "token": ""} for who in USERS
    }
    request = wish | {"set_passwords": not known, "images": [image_folder] if image_folder else []}
    answer = json.loads(plane.manage("bootstrap", stdin=json.dumps(request)))
    told = {"url": plane.memory.public_url} | {
        who: wish[who] | {"token": answer[who]["token"] or wish[who]["token"]} for who in USERS
    }
    if told != known:
        write_file(file, json.dumps(told, indent=2) + "\n")
    return told


def accepted(plane: ControlPlane, token: str) -> bool:
    """Whether a token still opens the API: it may have been revoked since the last `up`."""
    with Api(plane.memory.local_url, token) as api:
        return api.accepts_token()


def ensure_host(plane: ControlPlane, admin: Api) -> None:
    """This machine is a host, its worker runs, and the control plane has heard from it."""
    home, worker = plane.home, names("host")
    with plane.screen.step("Host") as step:
        if not machine_host.has_joined(home):
            step.note = "this machine joins"
            plane.supervision.start(NETWORK.name)  # before the host is asked what it can do
            machine_host.join(home, plane.memory.local_url, admin)
        elif machine_host.tell_addresses(home, plane.memory, plane.memory.local_url):
            plane.supervision.stop(*worker)
        plane.supervision.start(*worker)
        if not admin.accepts_token():  # the first admin is gone, and the cloud is in other hands
            step.result = "started"
            return
        until = time.monotonic() + HOST_SECONDS
        while not (name := machine_host.heard_from(home, admin)):
            step.note = "waiting for its first heartbeat"
            plane.supervision.check(*worker)
            if time.monotonic() > until:
                raise Trouble("this machine's host worker is not heard from; look at ./pileus logs host")
            time.sleep(0.2)
        wait_for_networks(plane, admin, step)
        step.result = name


def wait_for_networks(plane: ControlPlane, admin: Api, step: Step) -> None:
    """Until the host says whether it carries networks: its network process comes up beside its worker."""
    until = time.monotonic() + NETWORK_SECONDS
    while not machine_host.knows_its_networks(plane.home, admin) and time.monotonic() < until:
        step.note = "waiting for its networks"
        time.sleep(0.2)


def launch_first(plane: ControlPlane, image_folder: str, token: str) -> str:
    """The first virtual machine, by the public API as the tenant; done when the guest itself says that it is up."""
    image = json.loads(described(plane.home, image_folder))["name"]
    with plane.screen.step(f"First VM “{FIRST_INSTANCE}”") as step, Api(plane.memory.local_url, token) as demo:
        body = {"name": FIRST_INSTANCE, "flavor": FIRST_FLAVOR, "image": image}
        existing = demo.call("GET", "/projects/demo/instances", params={"name": FIRST_INSTANCE})["items"]
        if not existing:
            body |= first_ssh.key_and_group(plane.home, demo)
        row = existing[0] if existing else demo.call("POST", "/projects/demo/instances", json=body)

        def tell(words: str) -> None:
            step.note = words
            plane.supervision.check(*names("host"))

        booted = wait_for_guest(demo, row["id"], FIRST_INSTANCE, seconds=GUEST_SECONDS, tell=tell)
        step.result = f"up after {booted:.1f} s"
        way = first_ssh.open_way(plane.home, demo, row["id"])
    plane.memory.first_instance = row["id"]
    up_after = f"its guest was up {booted:.1f} s after power-on"
    return f"“{FIRST_INSTANCE}” in project demo, {image}; {up_after}\n              {way}"


def print_summary(home: Home, memory: Memory, logins: dict[str, Any] | None, vm: str | None, seconds: float) -> None:
    lines = ["", f"  Dashboard   {memory.public_url}"]
    if logins:
        lines += [f"  {who.capitalize():<9}   {logins[who]['username']} / {logins[who]['password']}" for who in USERS]
        lines += [f"              (kept in {home.credentials}, with an API token each)"]
    else:
        lines += [f"  Logins      in {home.credentials}"]
    lines += [f"  VM          {vm}"] if vm else []
    lines += ["", f"  The cloud is up: {seconds:.1f} s. ./pileus down stops it, ./pileus status shows it."]
    print("\n".join(lines), file=sys.stdout, flush=True)
