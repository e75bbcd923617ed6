"""Front-end files of others: pinned by version and hash, fetched from the npm registry, never kept in this repository.

They come out of the registry's tarballs (no node is needed), are kept in a cache, and are laid below the static root,
from where the dashboard serves them itself. Without them every page works; it is only less lively.
"""

import base64
import hashlib
import io
import os
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

TIMEOUT = 30
MAX_TARBALL = 64 * 2**20
DEFAULT_REGISTRY = "https://registry.npmjs.org"


class NotFetched(Exception):
    """A package could not be had, or is not what was pinned."""


@dataclass(frozen=True)
class Package:
    """One pinned package, and which of its files are served, by the names that they get."""

    name: str
    version: str
    integrity: str  # as package-lock.json writes it: sha512-<base64>
    files: dict[str, str]  # path in the tarball below package/ → file name
    folders: tuple[str, ...] = ()  # whose scripts are served under the paths that they have there

    @property
    def tarball(self) -> str:
        return f"{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"

    @property
    def folder(self) -> str:
        return f"{self.name.replace('@', '').replace('/', '-')}-{self.version}"


HTMX = Package(
    "htmx.org",
    "2.0.11",
    "sha512-Thx/WtpeOQqSrqBCw/A1cwGJGg4UrVa3+sW0GmrM3p4gJgO89ecH4qtbnyzDDWFvBTqjnIMCgELTNt636dtamA==",
    {"dist/htmx.min.js": "htmx.js"},
)
UPLOT = Package(
    "uplot",
    "1.6.32",
    "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
    {"dist/uPlot.iife.min.js": "uplot.js", "dist/uPlot.min.css": "uplot.css"},
)
# The last version whose terminal can be drawn without style sheets of its own, which our policy forbids: on a canvas.
XTERM = Package(
    "@xterm/xterm",
    "5.5.0",
    "sha512-hqJHYaQb5OptNunnyAnkHyM8aCjZ1MEIDTQu1iIbbTD/xops91NB5yq1ZK/dC2JDbVWtF23zUtl9JE2NqwT87A==",
    {"lib/xterm.js": "xterm.js", "css/xterm.css": "xterm.css"},
)
XTERM_CANVAS = Package(
    "@xterm/addon-canvas",
    "0.7.0",
    "sha512-LF5LYcfvefJuJ7QotNRdRSPc9YASAVDeoT5uyXS/nZshZXjYplGXRECBGiznwvhNL2I8bq1Lf5MzRwstsYQ2Iw==",
    {"lib/addon-canvas.js": "xterm-canvas.js"},
)
NOVNC = Package(
    "@novnc/novnc",
    "1.7.0",
    "sha512-ucEJOx4T2avIRCleodk7YobZj5O2Ga2AeLfQ69A/yjG9HHba2+PDgwSkN3FttrmG+70ZGx21sElNFouK13RzyA==",
    {"core/rfb.js": "core/rfb.js"},
    folders=("core", "vendor"),
)
# Only the tests need this one.
AXE = Package(
    "axe-core",
    "4.14.1",
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
    {"axe.min.js": "axe.js"},
)
SERVED = (HTMX, UPLOT, XTERM, XTERM_CANVAS, NOVNC)


def registry() -> str:
    """The npm registry of this machine: the environment, then the .npmrc files, then npm's own."""
    for variable in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(variable):
            return os.environ[variable].rstrip("/")
    for file in (Path.home() / ".npmrc", Path("/etc/npmrc"), Path("/usr/local/etc/npmrc")):
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition("=")
            if name.strip() == "registry" and value.strip():
                return value.strip().strip("\"'").rstrip("/")
    return DEFAULT_REGISTRY


def cache() -> Path:
    home = os.environ.get("PILEUS_HOME")
    return Path(home, "cache", "npm") if home else settings.STATIC_ROOT.parent / "npm"


def tarball(package: Package) -> bytes:
    """The package's tarball, from the cache or from the registry. Raises NotFetched."""
    kept = cache() / f"{package.folder}.tgz"
    try:
        content: bytes = kept.read_bytes()
        if fits(package, content):
            return content
    except OSError:
        pass
    url = f"{registry()}/{package.tarball}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310
            content = answer.read(MAX_TARBALL)
    except (OSError, ValueError) as error:
        raise NotFetched(f"{package.name} {package.version} cannot be fetched from {url}: {error}") from error
    if not fits(package, content):
        raise NotFetched(f"{url} is not the {package.name} {package.version} that is pinned: its hash differs")
    kept.parent.mkdir(parents=True, exist_ok=True)
    write(kept, content)
    return content


def fits(package: Package, content: bytes) -> bool:
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    return package.integrity == f"sha512-{digest}"


def write(path: Path, content: bytes) -> None:
    """A file, whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)


def extract(package: Package) -> dict[str, bytes]:
    """The files that are served, by name. Raises NotFetched."""
    found = {}
    scripts = tuple(f"package/{folder}/" for folder in package.folders)
    with tarfile.open(fileobj=io.BytesIO(tarball(package)), mode="r:gz") as archive:
        names = {f"package/{path}": name for path, name in package.files.items()}
        for path in archive.getnames():
            if path.startswith(scripts) and path.endswith(".js"):
                names[path] = path.removeprefix("package/")
        for path, name in names.items():
            member = archive.extractfile(path)
            assert member is not None
            found[name] = member.read()
    return found


def is_laid_out(package: Package) -> bool:
    """Its own files are written last, so what they need is there, too."""
    return all((settings.STATIC_ROOT / "vendor" / package.folder / name).exists() for name in package.files.values())


def lay_out(package: Package) -> None:
    """Put the package's files below the static root. Raises NotFetched."""
    folder = settings.STATIC_ROOT / "vendor" / package.folder
    for name, content in sorted(extract(package).items(), key=lambda file: file[0] in package.files.values()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name, content)
