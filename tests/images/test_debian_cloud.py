"""The image of a whole Debian: the parts that need no build, as a build takes minutes (tests/guests has one)."""

import struct
import subprocess

import pytest

from images import build
from images.architectures import ARCHITECTURES
from images.debian import Package
from images.debian_cloud import disk, recipe, repository
from images.tools import BuildError


def package(folder, name: str) -> tuple[Package, object]:
    tree = folder / name
    (tree / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: 1:2.0-1\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: none\n"
    (tree / "DEBIAN/control").write_text(control)
    made = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, made], check=True, capture_output=True)
    return Package(name, "1:2.0-1", "all", "ab" * 32), made


def test_package_files_become_a_repository_that_apt_reads(tmp_path):
    files = dict(package(tmp_path, name) for name in ("one", "two"))
    repository.make(files, tmp_path / "repository")
    stanzas = (tmp_path / "repository/Packages").read_text().split("\n\n")
    fields = [dict(line.split(": ", 1) for line in stanza.splitlines()) for stanza in stanzas]
    assert [each["Package"] for each in fields] == ["one", "two"]
    for each in fields:
        assert each["SHA256"] == "ab" * 32
        file = tmp_path / "repository" / each["Filename"]
        assert file.stat().st_size == int(each["Size"])


def test_a_damaged_package_is_named(tmp_path):
    (tmp_path / "x.deb").write_bytes(b"no package")
    with pytest.raises(BuildError, match=r"can't read x\.deb"):
        repository.make({Package("x", "1", "all", "ab" * 32): tmp_path / "x.deb"}, tmp_path / "repository")


def test_it_is_built_where_its_architecture_is(monkeypatch):
    made = recipe.DebianCloud()
    for architecture in ("aarch64", "riscv64"):
        with pytest.raises(BuildError, match=f"not for {architecture}"):
            made.packages(None, ARCHITECTURES[architecture], refresh=False)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(BuildError, match="on a machine of that architecture"):
        made.packages(None, ARCHITECTURES["x86_64"], refresh=False)


def test_all_missing_tools_are_named_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(BuildError, match="dosfstools .*fakechroot .*grub-common .*mmdebstrap .*mtools"):
        build.build("debian", "x86_64", tmp_path, cache=tmp_path, refresh=False, say=print)


def test_each_machine_has_an_identity_of_its_own(tmp_path):
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    for name in ("etc/ssh/ssh_host_rsa_key", "etc/machine-id", "var/lib/dbus/machine-id"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("of whoever built it")
    subprocess.run(["sh", "-ec", recipe.TIDY, "sh", tmp_path], check=True)
    assert not list(tmp_path.glob("etc/ssh/*"))
    assert not (tmp_path / "var/lib/dbus/machine-id").exists()
    assert (tmp_path / "etc/machine-id").read_text() == "", "systemd takes the one that the firmware tells"
    assert (tmp_path / "etc/systemd/system/systemd-machine-id-commit.service").readlink().samefile("/dev/null")


def test_the_partitions_lie_side_by_side_and_the_root_is_the_last():
    assert disk.BIOS_FIRST + disk.BIOS_SECTORS <= disk.ESP_FIRST
    assert disk.ESP_FIRST + disk.ESP_SECTORS == disk.ROOT_FIRST
    assert (disk.ROOT_FIRST + disk.ROOT_SECTORS + disk.TAIL_SECTORS) * disk.SECTOR == disk.DISK_MIB * disk.MIB
    assert disk.ROOT_FIRST % 2048 == 0


def test_the_first_sector_finds_the_rest_of_grub(tmp_path, monkeypatch):
    grub = tmp_path / "usr/lib/grub/i386-pc"
    grub.mkdir(parents=True)
    (grub / "boot.img").write_bytes(b"\xee" * 512)
    monkeypatch.setattr(disk, "_make_grub", lambda target, output, work, modules: output.write_bytes(b"\xdd" * 2048))
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    disk._write_bios(tmp_path / "disk", tmp_path)
    content = (tmp_path / "disk").read_bytes()
    assert struct.unpack_from("<Q", content, disk.BOOT_FIELD) == (disk.BIOS_FIRST,)
    assert content[disk.BOOT_CODE_BYTES : 512] == bytes(512 - disk.BOOT_CODE_BYTES), "the partition table is another's"
    core = disk.BIOS_FIRST * disk.SECTOR
    assert content[core] == 0xDD
    assert struct.unpack_from("<Q", content, core + disk.CORE_FIELD) == (disk.BIOS_FIRST + 1,)


def test_a_grub_that_is_too_large_is_refused(tmp_path, monkeypatch):
    grub = tmp_path / "usr/lib/grub/i386-pc"
    grub.mkdir(parents=True)
    (grub / "boot.img").write_bytes(bytes(512))
    monkeypatch.setattr(disk, "_make_grub", lambda target, output, work, modules: output.write_bytes(bytes(2 << 20)))
    with pytest.raises(BuildError, match="does not fit"):
        disk._write_bios(tmp_path / "disk", tmp_path)
