"""Guest images: built out of Debian's packages, and offered to the tenants."""

import os
import platform
import subprocess
from concurrent.futures import Future
from pathlib import Path

from cloud.embedded import environment, machine_host, system_packages
from cloud.embedded.accounts import Account, service_account
from cloud.embedded.control_plane import ControlPlane, names
from cloud.embedded.down import existing
from cloud.embedded.errors import Trouble
from cloud.embedded.files import open_log, read_file, write_file
from cloud.embedded.folders import one_command_at_a_time
from cloud.embedded.paths import TREE, Home
from cloud.embedded.screen import Screen
from cloud.embedded.starters import ARCHITECTURES as FIRST_ARCHITECTURES
from cloud.embedded.starters import IMAGE
from cloud.embedded.system_packages import Tool
from images import tools
from images.architectures import ARCHITECTURES
from images.build import RECIPES


def offer(home: Home, wanted: str) -> None:
    """`./pileus image …`: build a guest and offer it to every project; again, bring it up to date. `wanted`: a recipe,
    or an architecture for which the small guest is built.

    Raises Trouble for one that there is not, or that this machine cannot build or run.
    """
    memory = existing(home)
    recipe, architecture = _chosen(wanted)
    is_new = bool(system_packages.missing(architecture))
    lacking = _install(recipe, architecture)
    runs = machine_host.architectures(home)
    if architecture not in runs:
        others = ", ".join(sorted(runs)) or "nothing"
        what_to_do = f"; {system_packages.in_words(lacking)}" if lacking else ""
        raise Trouble(f"this machine has no emulator for {architecture}, only for {others}{what_to_do}")
    if packages := tools.missing(unpacking=ARCHITECTURES[architecture].unpack_kernel, more=RECIPES[recipe].tools):
        raise Trouble(f"building it needs more packages: sudo apt install {' '.join(packages)}")
    with one_command_at_a_time(home), Screen() as screen:
        plane = ControlPlane(home, memory, service_account(), screen)
        if not plane.running().issuperset(names("control")):
            raise Trouble("the cloud is not running; ./pileus up starts it")
        folder = build(home, plane.account, screen, architecture, recipe)
        with screen.step("Offered to every project") as step:
            step.result = plane.manage("import_images", folder).strip()
        if is_new:
            screen.say(f"  The emulator for {architecture} is new: ./pileus restart has this host use it.")


def _install(recipe: str, architecture: str) -> list[Tool]:
    """What a recipe and its guests need of this system; as root it is installed. What is missing then."""
    purposes = (recipe, architecture)
    if os.geteuid() == 0 and any(system_packages.missing(purpose) for purpose in purposes):
        with Screen() as screen, screen.step("System packages"):
            for purpose in purposes:
                system_packages.install(purpose, output=subprocess.DEVNULL)
    return [tool for purpose in purposes for tool in system_packages.missing(purpose)]


def _chosen(wanted: str) -> tuple[str, str]:
    """A recipe with an architecture."""
    if wanted in ARCHITECTURES:
        return IMAGE, wanted
    if wanted in RECIPES:
        return wanted, platform.machine()
    raise Trouble(f"there is no guest “{wanted}”, only {', '.join((*RECIPES, *ARCHITECTURES))}")


def first_image(plane: ControlPlane, packages: "Future[None]") -> str:
    """A guest of the first architecture that this machine can run and build for; its folder, or nothing."""
    packages.result()
    runs = machine_host.architectures(plane.home)
    for name in FIRST_ARCHITECTURES:
        if name in runs and not tools.missing(unpacking=ARCHITECTURES[name].unpack_kernel):
            return build(plane.home, plane.account, plane.screen, name)
    return ""


def build(home: Home, account: Account, screen: Screen, architecture: str, recipe: str = IMAGE) -> str:
    """The guest image, built from Debian packages once per version of its recipe; gives back its folder."""
    folder = home.built_images / f"{recipe}-{architecture}"
    stamp, fingerprint = home.stamps / folder.name, environment.source_fingerprint("images")
    if stamp.exists() and stamp.read_text() == fingerprint and (folder / "image.json").exists():
        return str(folder)
    command = [str(home.venv / "bin" / "python"), "-P", "-m", "images", "build", recipe, "--architecture", architecture]
    said: list[str] = []
    with screen.step(f"Guest image {recipe} for {architecture}") as step, open_log(home.log / "images.log") as log:
        builder = subprocess.Popen(
            [*command, "--output", str(folder)],
            env=environment.common(home),
            cwd=TREE,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **account.popen_arguments(),
        )
        with builder:
            for line in builder.stdout or ():
                log.write(line.encode())
                said.append(line.rstrip())
                step.note = line.rpartition("] ")[2].strip()[:60]
        if builder.returncode != 0:
            raise Trouble("the guest image could not be built:\n    " + "\n    ".join(said[-8:]))
    write_file(stamp, fingerprint)
    return str(folder)


def described(home: Home, folder: str) -> bytes:
    """The image.json of an image that was built here."""
    return read_file(home.built_images, Path(folder).name, "image.json")
