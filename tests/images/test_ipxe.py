"""The image of a system that is not Linux. Without a build: a guest of it is among those of tests/guests."""

import subprocess
from pathlib import Path

import pytest

from compute import user_data
from images import build
from images.architectures import ARCHITECTURES
from images.debian import Package
from images.ipxe import recipe
from images.tools import BuildError


def test_the_program_of_the_package_is_the_kernel_and_our_script_its_initrd(tmp_path):
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: ipxe\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: none\n"
    )
    (tree / "boot").mkdir()
    (tree / "boot/ipxe.lkrn").write_bytes(b"program")
    subprocess.run(["dpkg-deb", "--build", tree, tmp_path / "x.deb"], check=True, capture_output=True)
    package = Package("ipxe", "1.0", "all", "ab" * 32)
    (tmp_path / "image").mkdir()
    ipxe, x86 = recipe.Ipxe(), ARCHITECTURES["x86_64"]
    made = ipxe.build(x86, {package: tmp_path / "x.deb"}, tmp_path / "image", print)
    assert (tmp_path / "image/kernel").read_bytes() == b"program"
    assert (tmp_path / "image/initrd").read_bytes().startswith(b"#!ipxe\n")
    described = build.describe(ipxe, x86, "1.0-1", made, tmp_path / "image")
    assert (described["name"], described["cloud_init"]) == ("ipxe", False)
    assert [file["role"] for file in described["files"]] == ["kernel", "initrd"]


def test_it_is_for_pcs_only():
    with pytest.raises(BuildError, match="ipxe is built for x86_64, and not for aarch64"):
        recipe.Ipxe().packages(None, ARCHITECTURES["aarch64"], refresh=False)


def test_a_script_for_it_is_taken_as_user_data():
    assert user_data.fault("#!ipxe\nchain http://boot.example/menu.ipxe\n", full=False) is None
    assert user_data.kind_of(recipe.SCRIPT.read_text()) == user_data.SCRIPT


def test_each_recipe_changes_by_its_own_files_only():
    x86 = ARCHITECTURES["x86_64"]
    sums = {name: build._fingerprint(one, x86, []) for name, one in build.RECIPES.items()}
    assert len(set(sums.values())) == len(sums)
    folders = {build._folder(one) for one in build.RECIPES.values()}
    assert folders == {Path(build.__file__).parent / name for name in ("tiny_linux", "debian_cloud", "ipxe")}
