"""The recipe's products without booting them, and what happens when there is nothing to do."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from images import build, bzimage, elf, kernel
from images.tools import BuildError
from images.tree import Tree, merged
from tests.images.conftest import built


def test_image_json_describes_the_files(tiny_linux):
    image = json.loads((tiny_linux / "image.json").read_text())
    assert image["name"] == "tiny-linux"
    assert image["architecture"] == "x86_64"
    assert image["hypervisors"] == ["qemu"]
    assert image["min_disk_gib"] == 1
    assert image["kernel_command_line"].startswith("console=ttyS0 ")
    assert {file["role"]: file["format"] for file in image["files"]} == {
        "kernel": None,
        "initrd": None,
        "disk": "qcow2",
    }
    for file in image["files"]:
        content = (tiny_linux / file["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        assert len(content) == file["size"]
    assert sorted(path.name for path in tiny_linux.iterdir()) == sorted(
        ["image.json", *(file["file"] for file in image["files"])]
    )


def test_the_image_is_small(tiny_linux):
    assert sum(path.stat().st_size for path in tiny_linux.iterdir()) <= 48 << 20


def test_the_disk_says_its_format_and_has_no_backing_file(tiny_linux):
    info = json.loads(
        subprocess.run(
            ["qemu-img", "info", "--output=json", "-f", "qcow2", str(tiny_linux / "disk.qcow2")],
            capture_output=True,
            check=True,
        ).stdout
    )
    assert info["format"] == "qcow2"
    assert "backing-filename" not in info
    assert info["virtual-size"] <= 64 << 20


def test_everything_on_the_disk_belongs_to_root(tiny_linux, tmp_path):
    raw = tmp_path / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(tiny_linux / "disk.qcow2"), str(raw)], check=True)
    for path in ("/", "/etc", "/usr/lib/pileus", "/var/lib/pileus", "/root"):
        listing = subprocess.run(
            ["/usr/sbin/debugfs", "-R", f"ls -p {path}", str(raw)], capture_output=True, text=True, check=True
        )
        entries = [line.split("/")[1:] for line in listing.stdout.splitlines() if line.startswith("/") and line != "/0"]
        assert len(entries) >= 2
        assert {(entry[2], entry[3]) for entry in entries if entry[0] != "0"} == {("0", "0")}, path
    checked = subprocess.run(["/usr/sbin/e2fsck", "-f", "-n", str(raw)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_nobody_can_sign_in_before_a_seed_says_so(guest_root):
    accounts = [line.split(":") for line in (guest_root / "etc/shadow").read_text().splitlines()]
    assert all(hash_ in ("*", "$6$none$*") for _name, hash_, *_ in accounts)
    assert not list((guest_root / "root").iterdir())
    assert not list((guest_root / "etc/dropbear").iterdir())


def test_what_is_built_is_not_built_again(tiny_linux):
    before = {path.name: path.stat().st_mtime_ns for path in tiny_linux.iterdir()}
    said: list[str] = []
    build.build("tiny-linux", "x86_64", tiny_linux, cache=build.default_cache(), refresh=False, say=said.append)
    assert {path.name: path.stat().st_mtime_ns for path in tiny_linux.iterdir()} == before
    assert "is up to date" in said[-1]  # it may have waited for another test's build before


def test_a_damaged_output_is_made_whole(tiny_linux, tmp_path):
    output = tmp_path / "image"
    build.build("tiny-linux", "x86_64", output, cache=build.default_cache(), refresh=False, say=print)
    (output / "initrd").write_bytes(b"short")
    build.build("tiny-linux", "x86_64", output, cache=build.default_cache(), refresh=False, say=print)
    assert (output / "initrd").read_bytes() == (tiny_linux / "initrd").read_bytes()


def test_a_full_or_closed_directory_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-m", "images", "build", "tiny-linux", "--output=o", "--cache", f"{tmp_path}/file/x"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("images: ")
    assert done.stderr.count("\n") == 1


def test_the_kernel_is_unpacked_for_pvh(tiny_linux):
    content = (tiny_linux / "kernel").read_bytes()
    assert elf.is_elf(content)
    assert bzimage.has_pvh_entry(content)
    assert len(content) < 40 << 20


def test_an_unknown_kernel_stays_as_it_is():
    assert bzimage.vmlinux(bytes(4096)) is None


class FakeModules(kernel.Modules):
    """Modules by name and dependencies, without files."""

    def __init__(self, depends: dict[str, list[str]], built_in: set[str]) -> None:
        self.built_in, self.depends, self.directory = built_in, depends, "usr/lib/modules/1.0"
        self._packed = dict.fromkeys(depends, b"")

    def _depends(self, name: str) -> list[str]:
        return self.depends[name]


def test_modules_come_after_what_they_need_and_built_in_ones_not_at_all():
    modules = FakeModules(
        {"virtio_blk": ["virtio", "virtio_ring"], "virtio_ring": ["virtio"], "virtio": [], "x": []}, {"ext4"}
    )
    assert modules.closure(["virtio-blk", "ext4"]) == ["virtio", "virtio_ring", "virtio_blk"]


def test_a_missing_module_is_named_unless_it_is_a_spare_one():
    modules = FakeModules({"x": []}, set())
    with pytest.raises(BuildError, match=r"the kernel 1\.0 has no module floppy"):
        modules.closure(["floppy"])
    assert modules.closure(["floppy", "x"], optional=True) == ["x"]


def test_merged_usr_is_one_place():
    assert merged("lib/x86_64-linux-gnu/libc.so.6") == "usr/lib/x86_64-linux-gnu/libc.so.6"
    assert merged("etc/passwd") == "etc/passwd"


def test_links_are_followed_through_a_merged_usr():
    tree = Tree()
    tree.link("usr/lib64/ld.so", "/lib/multi/ld-1.so")
    tree.file("usr/lib/multi/ld-1.so", b"x")
    tree.link("a", "b")
    tree.link("b", "a")
    assert tree.resolve("usr/lib64/ld.so") == "usr/lib/multi/ld-1.so"
    assert tree.resolve("a") is None
    assert tree.resolve("nothing") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_ordinary_user_builds_the_same_bytes(tiny_linux, tmp_path):
    """Without the network: from packages that are in the cache already (given to the user)."""
    cache, output = tmp_path / "cache", tmp_path / "output"
    subprocess.run(
        ["cp", "-r", str(build.default_cache() / "packages"), str(build.default_cache() / "apt"), str(tmp_path)],
        check=True,
    )
    cache.mkdir()
    output.mkdir()
    for name in ("packages", "apt"):
        os.rename(tmp_path / name, cache / name)
    for path in [*tmp_path.parents[:2]]:
        path.chmod(0o755)
    subprocess.run(["chown", "-R", "65534:65534", str(tmp_path)], check=True)
    here = str(Path(__file__).parents[2])
    program = (
        f"import sys; sys.path.insert(0, {here!r}); from images.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", program, "build", "tiny-linux", "--output", str(output), "--cache", str(cache)],
        user=65534, group=65534, extra_groups=[], cwd="/", env={"HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    as_root = {file["role"]: file["sha256"] for file in json.loads((tiny_linux / "image.json").read_text())["files"]}
    as_user = {file["role"]: file["sha256"] for file in json.loads((output / "image.json").read_text())["files"]}
    assert as_user == as_root


def test_the_shared_image_is_the_one_of_these_sources(tiny_linux):
    assert built("tiny-linux", "x86_64") == tiny_linux
