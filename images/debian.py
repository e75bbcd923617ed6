"""Debian packages through a private apt: own lists, cache and state, any architecture, any user.

The system's apt is read (its Debian sources, its proxy) and never changed. apt verifies every index by the Debian
archive keyring and every package by the index; nothing here can switch that off.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote

from . import tools
from .tools import BuildError
from .tree import Node, merged

KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{suffix}") for suffix in ("gpg", "pgp"))
LISTS_AGE_SECONDS = 24 * 3600
# What is taken over from the system's apt: how to reach the network, and what its administrator decided on clocks.
ACQUIRE_SETTINGS = re.compile(
    r"Acquire::(https?::.*|socks::.*|Retries|ForceIPv[46]|Check-Date|Check-Valid-Until\b.*)", re.I
)


@dataclass(frozen=True)
class Package:
    """One package of an index, by exact version and hash."""

    name: str
    version: str
    architecture: str
    sha256: str

    @property
    def exactly(self) -> str:
        """As apt's command line names it."""
        return f"{self.name}:{self.architecture}={self.version}"


@dataclass(frozen=True)
class Source:
    """One line of sources: an archive's address, a suite and its components."""

    uri: str
    suite: str
    components: tuple[str, ...]


def running_release() -> str:
    """The code name of the Debian release that this machine runs."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    name = release.get("VERSION_CODENAME", "").strip('"')
    if release.get("ID", "").strip('"') != "debian" or not name:
        raise BuildError("guest images are built on Debian: /etc/os-release names another system")
    return name


def debian_sources(text_by_file: dict[str, str], release: str) -> list[Source]:
    """The sources of `release`, its updates and its security fixes in apt's own files (both formats, sources.list(5)).

    Other vendors' archives are left out: a source signed by another key, or not called Debian.
    """
    found = []
    for name, text in sorted(text_by_file.items()):
        for uri, suite, components, signed_by in (_deb822 if name.endswith(".sources") else _one_line)(text):
            keyed = "debian-archive" in signed_by if signed_by else "debian" in uri
            wanted = suite in (release, f"{release}-updates", f"{release}-security", f"{release}/updates")
            if keyed and wanted and "main" in components:
                found.append(Source(uri, suite, ("main",)))
    if not any(source.suite == release for source in found):
        found += default_sources(release)
    return list(dict.fromkeys(found))


def default_sources(release: str) -> list[Source]:
    """deb.debian.org, for a machine that has no Debian sources, or none of this release."""
    sources = [Source("http://deb.debian.org/debian", release, ("main",))]
    if release not in ("sid", "unstable"):
        sources.append(Source("http://deb.debian.org/debian-security", f"{release}-security", ("main",)))
    return sources


def _deb822(text: str) -> Iterator[tuple[str, str, list[str], str]]:
    for stanza in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        joined = re.sub(r"\n[ \t]+", " ", stanza)
        fields = {k.lower(): v.strip() for k, v in re.findall(r"(?m)^([\w-]+):[ \t]*(.*)$", joined)}
        if fields.get("enabled", "yes").lower() in ("no", "false", "0") or "deb" not in fields.get("types", "").split():
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield uri, suite, fields.get("components", "").split(), fields.get("signed-by", "")


def _one_line(text: str) -> Iterator[tuple[str, str, list[str], str]]:
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match:
            options = dict(word.split("=", 1) for word in (match[1] or "").split() if "=" in word)
            yield match[2], match[3], match[4].split(), options.get("signed-by", "")


class Archive:
    """Debian as one suite and architecture see it; `cache` keeps indexes and packages between builds."""

    def __init__(self, cache: Path, architecture: str, sources: list[Source], say: Callable[[str], None]) -> None:
        self.architecture = architecture
        self.sources = sources
        self.packages = cache / "packages"
        identity = hashlib.sha256(repr((architecture, sources)).encode()).hexdigest()[:12]
        self.home = cache / "apt" / f"{sources[0].suite}-{architecture}-{identity}"
        self._say = say

    def resolve(self, names: Iterable[str], *, refresh: bool = False) -> list[Package]:
        """The packages and all they depend on (not what they recommend), sorted by name.

        Indexes younger than a day are believed; when newer ones can't be had, older ones are used, and that is said.
        """
        names = sorted(names)
        memory = self.home / f"resolved-{hashlib.sha256(repr(names).encode()).hexdigest()[:12]}.json"
        if self._update(refresh) or not memory.exists():
            self._say(f"resolving {', '.join(names)} in {self.sources[0].suite} ({self.architecture})")
            closure = parse_uris(self._apt("install", "--print-uris", "--no-install-recommends", "--yes", *names))
            # `install` names the weakest hash of the index; `download` the strongest.
            listed = self._apt("download", "--print-uris", *(package.exactly for package in closure))
            packages = sorted(parse_uris(listed), key=lambda package: package.name)
            if len(packages) != len(closure) or not all(package.sha256 for package in packages):
                raise BuildError("the package index lacks a SHA-256")
            _write(memory, json.dumps([asdict(package) for package in packages], indent=1))
        return [Package(**fields) for fields in json.loads(memory.read_text())]

    def fetch(self, packages: Iterable[Package]) -> dict[Package, Path]:
        """The packages' files, downloaded unless the cache has them."""
        packages = list(packages)
        self.packages.mkdir(parents=True, exist_ok=True)
        paths = {package: self.packages / f"{package.sha256}.deb" for package in packages}
        missing = [
            package for package in packages if not paths[package].exists() or _sha256(paths[package]) != package.sha256
        ]
        if missing:
            self._say(f"downloading {len(missing)} packages ({', '.join(package.name for package in missing)})")
            with tempfile.TemporaryDirectory(dir=self.packages, prefix="download-") as directory:
                self._apt("download", *(package.exactly for package in missing), directory=directory)
                arrived = {_sha256(path): path for path in Path(directory).glob("*.deb")}
                for package in missing:
                    if package.sha256 not in arrived:
                        raise BuildError(f"apt delivered another {package.name} than its index promised")
                    os.replace(arrived[package.sha256], paths[package])
        return paths

    def _update(self, refresh: bool) -> bool:
        """Indexes made fresh when they are missing or old; whether they may have changed."""
        stamp = self.home / "updated"
        if not refresh and stamp.exists() and 0 <= time.time() - stamp.stat().st_mtime < LISTS_AGE_SECONDS:
            return False
        self._say(f"fetching the package indexes of {self.sources[0].suite} ({self.architecture})")
        try:
            # Without this option apt answers 0 although an index could not be fetched.
            self._apt("update", "-o", "APT::Update::Error-Mode=any")
        except BuildError as error:
            if not stamp.exists():
                raise
            self._say(
                f"{error}; going on with the indexes of {time.strftime('%Y-%m-%d', time.gmtime(stamp.stat().st_mtime))}"
            )
            return False
        stamp.touch()
        return True

    def _configure(self) -> None:
        keyring = next((path for path in KEYRINGS if path.exists()), None)
        if keyring is None:
            raise BuildError(f"{KEYRINGS[0]} is missing: install the package debian-archive-keyring")
        for directory in ("etc/parts", "state/lists/partial", "cache/archives/partial", "log"):
            (self.home / directory).mkdir(parents=True, exist_ok=True)
        (self.home / "state/status").touch()
        lines = [
            f"deb [arch={self.architecture} signed-by={keyring}] {s.uri} {s.suite} {' '.join(s.components)}\n"
            for s in self.sources
        ]
        _write(self.home / "etc/sources.list", "".join(lines))
        _write(self.home / "apt.conf", apt_configuration(self.home, self.architecture) + "".join(_system_settings()))

    def _apt(self, *arguments: str, directory: str | None = None) -> str:
        self._configure()  # each time: the cache may have been moved, or the system's proxy changed
        environment = dict(os.environ, APT_CONFIG=str(self.home / "apt.conf"), LC_ALL="C", PATH=tools.SEARCH_PATH)
        done = subprocess.run(
            [tools.find("apt-get"), "-q", *arguments], cwd=directory, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise BuildError(f"apt-get {arguments[0]} failed: {_first_error(done.stderr)}")
        return done.stdout


def apt_configuration(home: Path, architecture: str) -> str:
    """The apt.conf that keeps apt inside `home`; apt reads it first, so no file of the system's is read after it."""
    return f"""\
Dir "{home}";
Dir::Etc "etc";
Dir::Etc::Parts "parts";
Dir::Etc::SourceList "sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::Etc::Trusted "/dev/null";
Dir::Etc::TrustedParts "/dev/null";
Dir::State "state";
Dir::State::Status "{home}/state/status";
Dir::Cache "cache";
Dir::Log "log";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Get::List-Cleanup "true";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
"""


def _system_settings() -> Iterator[str]:
    """Lines of the system's configuration on reaching the network (a proxy, a certificate)."""
    dump = subprocess.run(
        [tools.find("apt-config"), "dump"],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, LC_ALL="C"),
    )
    for line in dump.stdout.splitlines():
        name = line.split(" ", 1)[0]
        if ACQUIRE_SETTINGS.fullmatch(name) and not line.endswith('"";'):
            yield line + "\n"


def system_sources() -> dict[str, str]:
    """The system's source files, name → text."""
    files = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    return {
        str(path): path.read_text(errors="replace") for path in files if path.is_file() and os.access(path, os.R_OK)
    }


def parse_uris(text: str) -> list[Package]:
    """The packages of `apt-get --print-uris`: lines of 'URI' NAME_VERSION_ARCHITECTURE.deb SIZE HASH-KIND:HASH."""
    packages = []
    for line in text.splitlines():
        if line.startswith("'"):
            _uri, filename, _size, *digests = shlex.split(line)
            name, version, rest = filename.removesuffix(".deb").split("_", 2)
            digest = next((word.removeprefix("SHA256:") for word in digests if word.startswith("SHA256:")), "")
            packages.append(Package(name, unquote(version), rest, digest))
    return packages


def contents(package_file: Path, wanted: Callable[[str], bool] = lambda path: True) -> Iterator[tuple[str, Node]]:
    """The wanted files, links and directories of a package, under a merged /usr, hard links as files."""
    with subprocess.Popen(
        [tools.find("dpkg-deb"), "--fsys-tarfile", str(package_file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as unpacking:
        assert unpacking.stdout is not None
        assert unpacking.stderr is not None
        hard_linked: dict[str, bytes] = {}
        with tarfile.open(fileobj=unpacking.stdout, mode="r|") as archive:
            for member in archive:
                path = merged(os.path.normpath(member.name).lstrip("/"))
                if path == "." or not wanted(path):
                    continue
                if member.issym():
                    yield path, Node(0o120777, member.linkname.encode())
                elif member.isfile():
                    content = archive.extractfile(member).read()  # type: ignore[union-attr]
                    hard_linked[member.name] = content
                    yield path, Node(0o100000 | member.mode & 0o7777, content)
                elif member.islnk() and member.linkname in hard_linked:
                    yield path, Node(0o100000 | member.mode & 0o7777, hard_linked[member.linkname])
        problem = unpacking.stderr.read().decode(errors="replace").strip()
    if unpacking.returncode:
        raise BuildError(f"dpkg-deb can't unpack {package_file.name}: {problem}")


def _first_error(text: str) -> str:
    """The line of apt's complaints that says most."""
    errors = [line.removeprefix("E: ") for line in text.splitlines() if line.startswith("E: ")]
    return errors[0] if errors else (text.strip().splitlines() or ["no message"])[-1]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    os.replace(temporary, path)
