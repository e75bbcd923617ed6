"""The private apt: which sources are taken over, what is verified, what is said when something is missing."""

import os
import subprocess

import pytest

from images import debian, tools
from images.debian import Source
from images.tools import BuildError

DEB822 = """\
Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: https://deb.nodesource.com/node_20.x
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/nodesource.gpg
"""
ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm main contrib
deb http://security.example/debian-security bookworm-security main # fixes
deb-src http://mirror.example/debian bookworm main
deb https://apt.releases.hashicorp.com bookworm main
deb https://download.docker.com/linux/debian bookworm stable
"""


def test_deb822_sources_of_the_release_are_taken_and_other_vendors_are_not():
    assert debian.debian_sources({"debian.sources": DEB822}, "bookworm") == [
        Source("http://mirror.example/debian", "bookworm", ("main",)),
        Source("http://mirror.example/debian", "bookworm-updates", ("main",)),
        Source("http://security.example/debian-security", "bookworm-security", ("main",)),
    ]


def test_one_line_sources_of_the_release_are_taken_and_other_vendors_are_not():
    assert debian.debian_sources({"sources.list": ONE_LINE}, "bookworm") == [
        Source("http://mirror.example/debian", "bookworm", ("main",)),
        Source("http://security.example/debian-security", "bookworm-security", ("main",)),
    ]


def test_without_sources_of_the_release_debian_itself_is_asked():
    expected = [
        Source("http://deb.debian.org/debian", "trixie", ("main",)),
        Source("http://deb.debian.org/debian-security", "trixie-security", ("main",)),
    ]
    assert debian.debian_sources({}, "trixie") == expected
    assert debian.debian_sources({"debian.sources": DEB822}, "trixie") == expected


def test_packages_are_read_with_version_and_hash():
    listed = "Reading…\n'http://m/p/a%2bb_1%3a2-3_arm64.deb' a+b_1%3a2-3_arm64.deb 42 SHA256:" + "ab" * 32 + "\n"
    (package,) = debian.parse_uris(listed)
    assert (package.name, package.version, package.architecture, package.sha256) == ("a+b", "1:2-3", "arm64", "ab" * 32)
    assert package.exactly == "a+b:arm64=1:2-3"


def test_apt_is_kept_inside_its_directory_and_verification_stays_on(tmp_path):
    for directory in ("etc/parts", "state/lists/partial", "cache/archives/partial", "log"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "state/status").touch()
    (tmp_path / "apt.conf").write_text(debian.apt_configuration(tmp_path, "riscv64"))
    environment = dict(os.environ, APT_CONFIG=str(tmp_path / "apt.conf"))
    dump = subprocess.run(["apt-config", "dump"], env=environment, capture_output=True, text=True, check=True).stdout
    settings = dict(line.rstrip(";").replace('"', "").split(" ", 1) for line in dump.splitlines() if " " in line)
    assert settings["Dir"] == str(tmp_path)
    assert settings["APT::Architecture"] == "riscv64"
    assert settings["Dir::State::Status"] == f"{tmp_path}/state/status"
    assert settings["Acquire::AllowInsecureRepositories"] == "0"
    assert not any("Post-Invoke" in name or "Unauthenticated" in name for name in settings)


def test_a_missing_tool_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(tools, "SEARCH_PATH", "/nonexistent")
    with pytest.raises(BuildError, match="mke2fs is missing: install the package e2fsprogs"):
        tools.find("mke2fs")
    with pytest.raises(BuildError, match=r"missing packages: .*e2fsprogs.*apt-get install"):
        tools.check(unpacking=False)


def test_no_network_is_one_line(tmp_path, monkeypatch):
    # Port 9 of this machine: nothing answers.
    archive = debian.Archive(tmp_path, "amd64", [Source("http://127.0.0.1:9/debian", "bookworm", ("main",))], print)
    monkeypatch.setattr(debian, "_system_settings", lambda: iter(['Acquire::Retries "0";\n']))
    with pytest.raises(BuildError) as caught:
        archive.resolve(["busybox-static"])
    assert str(caught.value).startswith("apt-get update failed: ")
    assert "\n" not in str(caught.value)
