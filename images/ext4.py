"""ext4 file systems made from a tree by mke2fs, by any user; every inode belongs to root."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import tools
from .tools import BuildError
from .tree import Tree

BLOCK = 4096
EPOCH = 1_700_000_000  # every file's time: the same tree makes the same bytes
JOURNAL_MIB = 4
# Blocks kept for group descriptors, so that the file system grows to 1 TiB without being rebuilt (then by meta_bg).
GROWTH_BLOCKS = (1 << 40) // BLOCK
INODES = 4096  # per 128 MiB once grown: one per 32 KiB
FIRST_INODE = 11


def make(tree: Tree, output: Path, label: str, identity: str) -> None:
    """Write a whole-disk file system (no partition table) that holds the tree with a few MiB to spare."""
    content = sum(-(-len(node.content) // BLOCK) * BLOCK for _, node in tree if node.is_file)
    size_mib = -(-(content + INODES * 256) // (1 << 20)) + JOURNAL_MIB + 4
    with tempfile.TemporaryDirectory(prefix="pileus-image-") as directory:
        root = Path(directory) / "root"
        _lay_out(tree, root)
        output.unlink(missing_ok=True)
        with output.open("wb") as file:
            file.truncate(size_mib << 20)
        options = f"resize={GROWTH_BLOCKS},root_owner=0:0,hash_seed={identity},lazy_itable_init=1,nodiscard"
        _run(
            "mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-I", "256", "-N", str(INODES), "-m", "1",
            "-L", label, "-U", identity, "-J", f"size={JOURNAL_MIB}", "-E", options, "-d", str(root), str(output),
        )  # fmt: skip
        _give_to_root(output, count=sum(1 for _ in tree) + 1)


def _lay_out(tree: Tree, root: Path) -> None:
    root.mkdir(mode=0o755)
    for path, node in tree:
        place = root / path
        if node.is_directory:
            place.mkdir()
        elif node.is_link:
            os.symlink(node.content, os.fsencode(place))
        elif node.is_file:
            place.write_bytes(node.content)
            place.chmod(node.mode & 0o7777)
        else:
            raise BuildError(f"{path}: devices belong into an initramfs, not on a disk")
    for path, node in reversed(list(tree)):  # children first: a directory's time changes as it is filled
        if node.is_directory:
            (root / path).chmod(node.mode & 0o7777)
        os.utime(root / path, (EPOCH, EPOCH), follow_symlinks=False)
    os.utime(root, (EPOCH, EPOCH))


def _give_to_root(image: Path, count: int) -> None:
    """Set in every inode what mke2fs takes from the builder: owner, group, time of change. Inodes go by number."""
    values = ("uid 0", "gid 0", f"ctime @{EPOCH}")
    lines = [f"set_inode_field <{n}> {value}" for n in range(FIRST_INODE, FIRST_INODE + count + 1) for value in values]
    with tempfile.NamedTemporaryFile("w", suffix=".debugfs") as script:
        script.write("\n".join(lines) + "\n")
        script.flush()
        _run("debugfs", "-w", "-f", script.name, str(image))


def _run(tool: str, *arguments: str) -> None:
    command: Sequence[str] = [tools.find(tool), *arguments]
    # libext2fs takes its clock from here, for a reproducible image.
    environment = dict(os.environ, E2FSPROGS_FAKE_TIME=str(EPOCH), SOURCE_DATE_EPOCH=str(EPOCH), LC_ALL="C")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{tool} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


def copy_sparse(source: Path, target: Path) -> None:
    """Copy, leaving out the zeros."""
    with source.open("rb") as reading, target.open("wb") as writing:
        while block := reading.read(1 << 16):
            if block.count(0) == len(block):
                writing.seek(len(block), os.SEEK_CUR)
            else:
                writing.write(block)
        writing.truncate(reading.tell())
    shutil.copymode(source, target)
