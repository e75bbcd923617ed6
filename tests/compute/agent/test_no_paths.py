"""Machines' files are used through `agent/folders.py`: a call by path follows what an emulator has put there."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute import agent

ROOT = Path(agent.__file__).parent
OF_PATHS = {
    *("open", "read_text", "write_text", "read_bytes", "write_bytes", "touch", "chmod", "lchmod", "hardlink_to"),
    *("exists", "is_file", "is_dir", "is_socket", "stat", "lstat", "iterdir", "glob", "rglob", "mkdir", "symlink_to"),
}
OF_OS = {
    *("open", "chmod", "lchmod", "chown", "lchown", "link", "symlink", "stat", "lstat", "access", "listdir", "scandir"),
    *("mkdir", "makedirs", "truncate", "utime", "setxattr", "walk", "mkfifo", "mknod"),
}
SAFE_OF_SHUTIL = {"disk_usage", "which"}
OURS = {"folders", "sockets"}  # modules whose functions have such names
# Functions that touch files of the host or of the agent alone, in folders where no emulator can write.
EXEMPT = {
    ("hypervisors/qemu/__init__.py", "groups_to_use"),  # /dev/kvm
    ("hypervisors/qemu/__init__.py", "_why_not_kvm"),
    ("hypervisors/qemu/__init__.py", "_accelerator"),  # firmware
    ("hypervisors/qemu/firmware.py", "find"),
    ("hypervisors/qemu/firmware.py", "_read"),
    ("sockets.py", "address"),  # O_PATH and O_NOFOLLOW, in an open folder
}
# The program of the embedded emulator runs as the machine's user; probes and the program's copy are the agent's files.
ELSEWHERE = ("hypervisors/unicorn/board/", "hypervisors/unicorn/program.py", "hypervisors/qemu/probe.py")


def calls_by_path(source: str) -> Iterator[tuple[str, str]]:
    """The function and the call, for each call that looks a path up."""
    tree = ast.parse(source)
    within = {
        node: function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_by_path(node):
            yield within.get(node, ""), ast.unparse(node)


def _is_by_path(call: ast.Call) -> bool:
    function = call.func
    if isinstance(function, ast.Name):
        return function.id == "open"
    if not isinstance(function, ast.Attribute):
        return False
    owner = function.value.id if isinstance(function.value, ast.Name) else ""
    if owner == "os":
        return function.attr in OF_OS
    if owner == "shutil":
        return function.attr not in SAFE_OF_SHUTIL
    return function.attr in OF_PATHS and owner not in OURS


def test_machines_files_are_used_through_descriptors_only():
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(ELSEWHERE):
            calls = calls_by_path(path.read_text())
            found += [f"{name}: {call}" for function, call in calls if (name, function) not in EXEMPT]
    assert found == [], "use agent/folders.py: an emulator's user may have put a link or a FIFO there"


@pytest.mark.parametrize(
    "call",
    [
        *("open(path)", "path.open('wb')", "home.disk.exists()", "os.open(path, 0)", "os.chown(path, 0, 0)"),
        *("shutil.rmtree(path)", "os.link(a, b)", "(new / name).read_text()", "directory.iterdir()"),
    ],
)
def test_the_rule_sees_it(call):
    assert list(calls_by_path(f"def act():\n    {call}\n")) == [("act", call)]
