"""The parts of `./pileus up` that stand alone: packages, pip, ports, memory, the copy of the tree."""

import functools
import http.server
import io
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cloud.embedded import environment, folders, get_pip, guests, machine_host, ports, publish, system_packages
from cloud.embedded.accounts import myself
from cloud.embedded.control_plane import ControlPlane
from cloud.embedded.errors import Trouble
from cloud.embedded.files import make_folder, write_file
from cloud.embedded.memory import Memory
from cloud.embedded.paths import TREE, Home
from cloud.embedded.screen import Screen
from cloud.embedded.told import told_by_environment
from images.tools import PACKAGES


@pytest.fixture
def listener():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_reported_with_its_holder_and_a_way_out(listener):
    with pytest.raises(ports.PortTaken) as caught:
        ports.require_free(listener, "127.0.0.1", variable="PILEUS_PORT")
    assert f"(pid {os.getpid()})" in str(caught.value)
    assert "PILEUS_PORT=" in str(caught.value)


def test_the_next_free_port_is_none_that_is_taken(listener):
    assert ports.next_free(range(listener, listener + 20)) > listener


TAKE = """
from cloud.embedded import ports
print(ports.next_free(range({port}, {port} + 20)), flush=True)
input()
"""


def test_a_port_that_another_is_about_to_open_is_taken_until_it_has_ended(listener):
    command = [sys.executable, "-c", TAKE.format(port=listener)]
    with subprocess.Popen(command, cwd=TREE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        port = int(other.stdout.readline())
        assert ports.is_free(port)
        assert ports.next_free(range(port, port + 20)) > port
        with pytest.raises(ports.PortTaken, match=rf"port {port} .* by another `./pileus up`"):
            ports.require_free(port, "127.0.0.1", variable="PILEUS_PORT")
    ports.require_free(port, "127.0.0.1", variable="PILEUS_PORT")


def test_a_full_disk_is_reported_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "shutil.disk_usage", lambda _: os.terminal_size((0, 0)) and type("Usage", (), {"free": 2**29})()
    )
    with pytest.raises(Trouble, match=r"has 0.5 GiB free, and 2 GiB are needed"):
        folders.require_space(Home(tmp_path))


def test_two_commands_do_not_run_side_by_side(tmp_path):
    alone = folders.one_command_at_a_time
    with alone(Home(tmp_path)), pytest.raises(Trouble, match="under way"), alone(Home(tmp_path)):
        pass
    with alone(Home(tmp_path)):
        pass


def test_secrets_are_for_their_owner_only(tmp_path):
    home = Home(tmp_path)
    Memory(port=9090).keep(home)
    assert stat.S_IMODE(home.memory.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o700
    assert Memory.of(home).port == 9090
    assert Memory.of(home) == Memory.of(home)


def test_keys_differ_between_clouds():
    assert Memory().secret_key != Memory().secret_key


def test_the_environment_goes_before_what_is_remembered(monkeypatch):
    monkeypatch.setenv("PILEUS_PORT", "9091")
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/cloud")
    memory = told_by_environment(Memory(port=9090, redis_port=6500))
    assert (memory.port, memory.redis_port, memory.database_url) == (9091, 6500, "postgresql://elsewhere/cloud")


def test_a_setting_is_remembered_until_it_is_taken_back(monkeypatch):
    monkeypatch.setenv("PILEUS_PLACEMENT", "spread")
    memory = told_by_environment(Memory())
    monkeypatch.delenv("PILEUS_PLACEMENT")
    memory = told_by_environment(memory)
    assert environment.control_plane(Home(Path("/srv/a")), memory, process="web")["PILEUS_PLACEMENT"] == "spread"
    monkeypatch.setenv("PILEUS_PLACEMENT", "")
    assert told_by_environment(memory).settings == {}


def test_a_bucket_is_remembered_and_hosts_are_told_nothing_of_it(monkeypatch):
    home, key = Home(Path("/srv/a")), "PILEUS_S3_SECRET_KEY"
    monkeypatch.setenv("PILEUS_IMAGE_STORE", "/a/folder/of/tests")
    assert told_by_environment(Memory()).settings == {}
    monkeypatch.setenv("PILEUS_IMAGE_STORE", "s3://bucket/images")
    monkeypatch.setenv(key, "very secret")
    memory = told_by_environment(Memory())
    for name in ("PILEUS_IMAGE_STORE", key):
        monkeypatch.delenv(name)
    memory = told_by_environment(memory)
    told = environment.control_plane(home, memory, process="web")
    assert (told["PILEUS_IMAGE_STORE"], told[key]) == ("s3://bucket/images", "very secret")
    assert told["PILEUS_BACKUP_STORE"] == "/srv/a/backups"
    assert "very secret" not in environment.host(home, memory).values()
    monkeypatch.setenv("PILEUS_IMAGE_STORE", "")
    back = environment.control_plane(home, told_by_environment(memory), process="web")
    assert back["PILEUS_IMAGE_STORE"] == "/srv/a/images"


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1"])
def test_a_port_that_is_none_is_refused(port, monkeypatch):
    monkeypatch.setenv("PILEUS_PORT", port)
    with pytest.raises(Trouble, match=f"PILEUS_PORT={port}"):
        told_by_environment(Memory())


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://127.0.0.1:8080"),
        ("::1", "http://[::1]:8080"),
    ],
)
def test_the_url_is_one_that_opens_on_this_machine(listen, url):
    assert Memory(listen=listen).public_url == url


@pytest.mark.parametrize(
    ("machine", "host"),
    [("Node1.example.com", "node1"), ("4d2f", "host-4d2f"), ("my_laptop", "my-laptop"), ("___", "host")],
)
def test_a_machine_name_becomes_a_resource_name(machine, host, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: machine)
    assert machine_host.host_name() == host


def test_a_host_learns_the_new_ports_and_keeps_its_login(tmp_path):
    home = Home(tmp_path)
    make_folder(home.agent)
    (home.agent / "agent.json").write_text(
        '{"url": "http://127.0.0.1:8080", "redis_url": "redis://h-1:secret@127.0.0.1:6480/0", "token": "t"}'
    )
    memory = Memory(port=9090, redis_port=6481)
    assert machine_host.tell_addresses(home, memory, memory.local_url) is True
    text = (home.agent / "agent.json").read_text()
    assert '"url": "http://127.0.0.1:9090"' in text
    assert '"redis_url": "redis://h-1:secret@127.0.0.1:6481/0"' in text
    assert machine_host.tell_addresses(home, memory, memory.local_url) is False


@pytest.fixture
def port_of_valkey(tmp_path):
    """Which port `up` chooses when it chose one before; and what it says about it."""

    def choose(redis_port: int) -> tuple[int, str]:
        out, home = io.StringIO(), Home(tmp_path)
        memory = Memory(port=ports.next_free(range(18180, 18280)), redis_port=redis_port)
        with Screen(out) as screen:
            ControlPlane(home, memory, myself(), screen).choose_ports(memory)
        return memory.redis_port, out.getvalue()

    return choose


def test_valkey_keeps_its_port_while_the_process_before_it_ends(port_of_valkey):
    with socket.socket() as ending:
        ending.bind(("127.0.0.1", 0))
        ending.listen()
        port = ending.getsockname()[1]
        timer = threading.Timer(0.3, ending.close)
        timer.start()
        assert port_of_valkey(port) == (port, "")


def test_valkey_moves_from_a_port_that_another_holds_on_to_and_says_so(port_of_valkey, listener, monkeypatch):
    monkeypatch.setattr(ports, "SECONDS_TO_BECOME_FREE", 0.1)
    port, said = port_of_valkey(listener)
    assert port in ports.REDIS_PORTS
    assert f"from port {listener}" in said
    assert f"to {port}" in said


def test_every_tool_that_images_need_is_among_the_packages():
    listed = {tool.program: tool.package for tool in system_packages.TOOLS}
    assert PACKAGES.items() <= listed.items()


def test_what_a_whole_debian_needs_is_installed_for_that_only():
    for purpose in ("up", "test"):
        assert not any(tool.program == "mmdebstrap" for tool in system_packages.TOOLS if purpose in tool.purposes)
    assert any(tool.program == "mmdebstrap" for tool in system_packages.TOOLS if "debian" in tool.purposes)


def test_a_guest_is_named_by_its_recipe_or_by_an_architecture(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert guests._chosen("debian") == ("debian", "x86_64")
    assert guests._chosen("aarch64") == ("tiny-linux", "aarch64")
    with pytest.raises(Trouble, match="no guest “windows”, only tiny-linux, debian, ipxe, x86_64, aarch64, riscv64"):
        guests._chosen("windows")


def test_what_is_missing_is_said_in_one_line_with_what_to_type(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    line = system_packages.in_words(system_packages.missing("up"))
    assert "\n" not in line
    assert "qemu-system-x86_64" in line
    assert "sudo apt install" in line


def test_an_ordinary_user_installs_nothing(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("nothing is to be run"))
    assert system_packages.install("up") == system_packages.missing("up")


def test_a_folder_of_somebody_else_is_not_used(tmp_path):
    (tmp_path / "trap").symlink_to("/tmp")
    with pytest.raises(PermissionError):
        make_folder(tmp_path / "trap")


def test_sockets_of_an_ordinary_user_outlive_the_login(monkeypatch, tmp_path):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.delenv("PILEUS_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert Home(Path("/home/alice/pileus/var")).runtime == Path("/home/alice/pileus/var/run")
    deep = Home(Path("/home/alice") / ("deep" * 20))
    assert deep.runtime.parent == tmp_path


def test_state_folders_do_not_share_sockets(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.delenv("PILEUS_RUNTIME_DIR", raising=False)
    assert Home(Path("/var/lib/pileus")).runtime == Path("/run/pileus")
    assert Home(Path("/srv/a")).runtime != Home(Path("/srv/b")).runtime


def test_a_private_file_is_whole_and_private_also_when_it_was_not(tmp_path):
    file = tmp_path / "secret"
    file.write_text("old")
    file.chmod(0o644)
    write_file(file, "new")
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_copy_of_the_tree_follows_it_and_leaves_out_what_is_no_source(tmp_path):
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    for name in ("cloud/a.py", "cloud/b.py", ".git/config", "cloud/__pycache__/a.pyc", "var/secret"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / "pileus").write_text("#!/bin/sh")
    (tree / "pileus").chmod(0o700)
    (tree / "cloud/a.py").chmod(0o600)
    copy.mkdir()
    publish.publish(tree, copy)
    assert sorted(path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()) == [
        "cloud/a.py",
        "cloud/b.py",
        "pileus",
    ]
    assert stat.S_IMODE((copy / "cloud/a.py").stat().st_mode) == 0o644
    assert stat.S_IMODE((copy / "pileus").stat().st_mode) == 0o755
    untouched = (copy / "cloud/a.py").stat().st_ino
    (tree / "cloud/b.py").unlink()
    (tree / "cloud/c.py").write_text("c")
    publish.publish(tree, copy)
    assert sorted(path.name for path in (copy / "cloud").iterdir()) == ["a.py", "c.py"]
    assert (copy / "cloud/a.py").stat().st_ino == untouched


def test_pip_is_asked_for_where_it_is_configured_to_be(tmp_path, monkeypatch):
    for variable in ("PIP_INDEX_URL", "PIP_CERT", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "pip.conf").write_text("[global]\nindex-url = https://mirror.example/simple\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert get_pip.pip_setting("index-url") == "https://mirror.example/simple"
    monkeypatch.setenv("PIP_INDEX_URL", "https://nearer.example/simple")
    assert get_pip.pip_setting("index-url") == "https://nearer.example/simple"
    assert get_pip.pip_setting("no-such-setting", "default") == "default"


@pytest.mark.parametrize("link", ["https://files.example/a/{}#sha256=1", "../../packages/{}", "{}"])
def test_the_wheel_is_found_on_an_index_page(link):
    page = f'<a href="https://files.example/pip-1.0.tar.gz">old</a> <a href="{link.format(get_pip.WHEEL)}">new</a>'
    assert get_pip.WHEEL in get_pip.wheel_address(page, "https://index.example/simple/pip/")


def test_a_pip_with_another_hash_is_not_installed(tmp_path, monkeypatch):
    (tmp_path / "simple" / "pip").mkdir(parents=True)
    (tmp_path / "simple" / "pip" / "index.html").write_text(f'<a href="{get_pip.WHEEL}">pip</a>')
    (tmp_path / "simple" / "pip" / get_pip.WHEEL).write_bytes(b"something else")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("nothing is to be installed"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
        with pytest.raises(SystemExit, match="its hash differs"):
            get_pip.main()
        server.shutdown()


def test_as_an_ordinary_user_everything_runs_as_that_user(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert myself().popen_arguments() == {}


def test_a_database_left_in_the_environment_does_not_replace_the_clouds_own(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/other")
    with pytest.raises(Trouble, match="DATABASE_URL names another one"):
        told_by_environment(Memory(furnished="yes"))
    monkeypatch.setenv("PILEUS_DATABASE_MOVED", "1")
    assert told_by_environment(Memory(furnished="yes")).database_url == "postgresql://elsewhere/other"


def test_every_setting_that_the_manual_names_for_one_machine_reaches_the_control_plane(monkeypatch):
    manual = (TREE / "docs/operating.md").read_text()
    table = manual[manual.index("## One machine") : manual.index("## Several machines")]
    named = set(re.findall(r"`((?:PILEUS|DATABASE|REDIS)_\w+)`", table)) - {"PILEUS_HOME"}
    assert {"PILEUS_OIDC_URL", "PILEUS_PLACEMENT"} <= named
    for name in named:
        monkeypatch.setenv(name, "10007")
    told = environment.control_plane(Home(Path("/srv/a")), told_by_environment(Memory()), process="web")
    missing = {name for name in named if "10007" not in told.get(name, "")}
    assert missing == {"PILEUS_PORT", "PILEUS_LISTEN"}, "these make the address"
    assert told["PILEUS_BIND"] == "10007:10007"
