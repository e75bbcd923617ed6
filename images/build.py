"""Building an image, or finding that it is built already: a recipe's inputs, hashed, are the image's version."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import debian, ext4, tools
from .architectures import ARCHITECTURES, Architecture
from .debian import Archive, Package
from .debian_cloud import DebianCloud
from .ipxe import Ipxe
from .recipe import Recipe, Say
from .tiny_linux import TinyLinux
from .tools import BuildError

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (TinyLinux(), DebianCloud(), Ipxe())}
USUAL_ARCHITECTURE = "x86_64"


def default_cache() -> Path:
    """$XDG_CACHE_HOME/pileus, or ~/.cache/pileus."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pileus"


def build(
    name: str, architecture_name: str, output: Path, *, cache: Path, refresh: bool, say: Say
) -> dict[str, object]:
    """Make `output`/image.json and its files, from the cache when nothing they are made of has changed.

    The answer is what image.json says. Raises BuildError, or OSError when a disk is full or a directory closed.
    """
    recipe, architecture = RECIPES[name], ARCHITECTURES[architecture_name]
    tools.check(unpacking=architecture.unpack_kernel, more=recipe.tools)
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache, say):
        archive, packages = _resolve(recipe, architecture, cache, refresh, say)
        fingerprint = _fingerprint(recipe, architecture, packages)
        home = cache / "images" / f"{name}-{architecture.name}-{fingerprint}"
        if not _complete(home):
            _build(recipe, architecture, archive, packages, home=home, say=say)
            _forget_older(home)
        description: dict[str, object] = json.loads((home / "image.json").read_text())
        if _complete(output) and json.loads((output / "image.json").read_text()) == description:
            say(f"{output} is up to date ({description['version']})")
        else:
            say(f"copying {description['version']} to {output}")
            _copy(home, output, description)
    return description


def _resolve(
    recipe: Recipe, architecture: Architecture, cache: Path, refresh: bool, say: Say
) -> tuple[Archive, list[Package]]:
    """The packages, from the running release or the first of the architecture's other suites that has them."""
    release = debian.running_release()
    attempts = [debian.debian_sources(debian.system_sources(), release)]
    attempts += [debian.default_sources(suite) for suite in architecture.other_suites if suite != release]
    for number, sources in enumerate(attempts, start=1):
        archive = Archive(cache, architecture.debian, sources, say)
        try:
            return archive, recipe.packages(archive, architecture, refresh=refresh)
        except BuildError as error:
            if number == len(attempts):
                raise
            say(f"{sources[0].suite} has no {architecture.debian} to build from: {error}")
    raise AssertionError("there is always one attempt")


def _build(
    recipe: Recipe, architecture: Architecture, archive: Archive, packages: list[Package], *, home: Path, say: Say
) -> None:
    """Build into the cache: whole or not at all."""
    files = archive.fetch(packages)
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="building-") as directory:
        work = Path(directory) / "image"
        work.mkdir()
        made = recipe.build(architecture, files, work, say)
        main = next(package for package in packages if package.name.startswith(recipe.main_package))
        description = describe(recipe, architecture, f"{main.version}-{home.name.rsplit('-', 1)[1]}", made, work)
        (work / "image.json").write_text(json.dumps(description, indent=2) + "\n")
        shutil.rmtree(home, ignore_errors=True)  # an incomplete one
        os.rename(work, home)


def image_name(recipe: str, architecture: str) -> str:
    """What a cloud calls it: other architectures than the usual one are named."""
    return recipe if architecture == USUAL_ARCHITECTURE else f"{recipe}-{architecture}"


def describe(
    recipe: Recipe, architecture: Architecture, version: str, made: dict[str, object], directory: Path
) -> dict[str, object]:
    """image.json: what a cloud has to know to register and boot the image."""
    files = [
        {**file, "sha256": _sha256(directory / file["file"]), "size": (directory / file["file"]).stat().st_size}
        for file in made["files"]  # type: ignore[attr-defined]
    ]
    return {
        "name": image_name(recipe.name, architecture.name),
        "architecture": architecture.name,
        "os": recipe.os,
        "version": version,
        "description": recipe.description,
        "min_disk_gib": recipe.min_disk_gib,
        "min_memory_mib": recipe.min_memory_mib,
        "hypervisors": list(architecture.hypervisors),
        "default_user": recipe.default_user,
        "cloud_init": recipe.cloud_init,
        "kernel_command_line": made["kernel_command_line"],
        "files": files,
    }


def _fingerprint(recipe: Recipe, architecture: Architecture, packages: list[Package]) -> str:
    """Of all that decides what comes out: these sources, the guest's files, the packages. Not of other recipes."""
    digest = hashlib.sha256(repr((architecture, packages)).encode())
    here = Path(__file__).parent
    others = {_folder(other) for other in RECIPES.values()} - {_folder(recipe)}
    for path in sorted(here.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and others.isdisjoint(path.parents):
            digest.update(f"\0{path.relative_to(here)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _folder(recipe: Recipe) -> Path:
    """Where the recipe's own files are."""
    return Path(sys.modules[type(recipe).__module__].__file__ or "").parent


def _complete(directory: Path) -> bool:
    """Whether a directory holds an image whose files are all there, by size."""
    try:
        files = json.loads((directory / "image.json").read_text())["files"]
        return all((directory / file["file"]).stat().st_size == file["size"] for file in files)
    except (OSError, ValueError, KeyError):
        return False


def _copy(home: Path, output: Path, description: dict[str, object]) -> None:
    """Files first and image.json last, each by rename: who reads the directory meanwhile sees a whole image."""
    output.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError, ValueError, KeyError):  # an older version's files, which may have other names
        for file in json.loads((output / "image.json").read_text())["files"]:
            (output / Path(file["file"]).name).unlink(missing_ok=True)
    (output / "image.json").unlink(missing_ok=True)
    names = [file["file"] for file in description["files"]]  # type: ignore[attr-defined]
    for name in [*names, "image.json"]:
        temporary = output / f".{name}.new"
        ext4.copy_sparse(home / name, temporary)
        os.replace(temporary, output / name)


def _forget_older(home: Path) -> None:
    """Drop this image's earlier builds from the cache."""
    for path in home.parent.glob(home.name.rsplit("-", 1)[0] + "-*"):
        if path != home:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def alone(cache: Path, say: Say) -> Iterator[None]:
    """One build at a time in a cache."""
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
