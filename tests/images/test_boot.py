"""Real boots under emulation: what a guest says and does, read on its console."""

import json
import re
import socket
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from passlib.hash import sha512_crypt

from compute.agent import host_keys
from compute.agent.nics import Nic
from compute.ssh import fingerprint
from tests.clouds import wait_until
from tests.images.machine import Machine
from tests.servers import free_port

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

CLOUD_CONFIG = """\
#cloud-config
hostname: web-7.example.com
users:
  - name: bob
    groups: [wheel]
    lock_passwd: false
    plain_text_passwd: "it's #1"
  - name: carol
write_files:
  - path: /opt/deep/one
    content: |
      line "one"
        indented $HOME
    permissions: '0640'
    owner: bob:bob
  - {path: /opt/binary, encoding: b64, content: aGkACg==, permissions: 0700}
  - {path: /opt/packed, encoding: gz+b64, content: H4sIAAAAAAACAytIzMzhAgCuuvHSBQAAAA==}
  - {path: /opt/deep/one, append: true, content: "more\\n", permissions: '0640', owner: bob:bob}
bootcmd:
  - echo boot >>/root/boots
runcmd:
  - echo run >>/root/runs
  - [sh, -c, 'echo "list: $1"', x, "it's fine"]
  - cat /opt/deep/one
  - stat -c '%n %a %U:%G %s' /opt/deep/one /opt/binary; wc -c /opt/packed
  - echo "root $(df -m / | awk 'NR==2 {print $2}') MiB"
  - echo "user $(id bob)"
password: s3cret
packages: [nginx]
"""


@pytest.fixture(scope="module")
def configured(tiny_linux: Path, tmp_path_factory: pytest.TempPathFactory):
    """A machine that applied CLOUD_CONFIG at its first boot and is at its login prompt."""
    made = Machine(tiny_linux, tmp_path_factory.mktemp("configured") / "m", disk_gib=3)
    made.seed(user_data=CLOUD_CONFIG, hostname="ignored-by-user-data")
    made.boot()
    made.wait_for("login:")
    yield made
    made.close()


def test_cloud_config_is_applied_at_the_first_boot(configured):
    lines = configured.lines()
    assert "list: it's fine" in lines
    assert 'line "one"\n  indented $HOME\nmore\n' in configured.text
    assert "/opt/deep/one 640 bob:bob 33" in lines
    assert "/opt/binary 700 root:root 4" in lines
    assert "5 /opt/packed" in lines
    assert "user uid=1000(bob) gid=1000(bob) groups=1000(bob),10(wheel)" in lines
    assert "pileus: user-data: packages is not known here: ignored" in lines


def test_ready_names_the_host_and_the_time_since_boot(configured):
    (ready,) = (line for line in configured.lines() if line.startswith("READY "))
    assert re.fullmatch(r"READY web-7 \d+\.\d\d", ready)


def test_the_root_disk_has_the_size_of_its_flavor(configured):
    (size,) = (int(line.split()[1]) for line in configured.lines() if line.startswith("root "))
    assert 2900 < size <= 3072


def test_the_console_lets_in_by_password_only(configured):
    configured.type("carol", "Password:")
    configured.type("", "incorrect")
    configured.wait_for("login:", after=configured.text.rindex("incorrect"))
    configured.type("root", "Password:")
    configured.type("s3cret", "# ")
    configured.type("whoami; exit", "login:")
    configured.type("bob", "Password:")
    configured.type("it's #1", "$ ")
    configured.type("echo $((6*7)); exit", "42")


def test_the_power_button_ends_it_cleanly_and_a_second_boot_does_not_run_it_again(configured):
    """Nor is it another instance with a new password, which is set, once."""
    assert configured.power_off() < 20
    reset = {"id": str(uuid.uuid4()), "user": "root", "hash": sha512_crypt.hash("s3cond")}
    configured.seed(user_data=CLOUD_CONFIG, hostname="ignored-by-user-data", password_reset=reset)
    configured.boot()
    assert "pileus: root has a new password" in configured.lines()
    assert "pileus: new instance" not in configured.text
    assert "list: it's fine" not in configured.lines()
    configured.wait_for("login:")
    configured.type("root", "Password:")
    configured.type("s3cond", "# ")
    configured.type("wc -l /root/boots /root/runs; dmesg | grep -c recovery", "total")
    lines = configured.lines()
    assert "2 /root/boots" in lines
    assert "1 /root/runs" in lines
    configured.wait_for("\n0\r\n", after=configured.text.rindex("total"))


def test_a_new_instance_id_is_applied_with_new_host_keys(machine):
    script = "#!/bin/sh\necho script of {} as $(id -un) in $(pwd)\n"
    machine.seed(instance_id="iid-a", hostname="a", user_data=script.format("a"))
    machine.boot(until="READY a ")
    first = re.search(r"SSH host key (\S+)", machine.text)
    assert "script of a as root in /" in machine.lines()
    machine.power_off()
    machine.host_key = host_keys.make()
    machine.seed(instance_id="iid-b", hostname="b", user_data=script.format("b"))
    machine.boot(until="READY b ")
    second = re.search(r"SSH host key (\S+)", machine.text)
    assert "script of b as root in /" in machine.lines()
    assert first is not None
    assert second is not None
    assert first[1] != second[1] == fingerprint(machine.host_key.public)


def test_a_malformed_document_is_said_and_the_boot_goes_on(machine):
    machine.seed(hostname="odd", user_data="#cloud-config\nruncmd:\n  - echo hi\n bad: [\n")
    machine.boot(until="READY odd ")
    assert re.search(r"pileus: user-data is malformed and not applied: line \d+: ", machine.text)


COLLIDING = """#cloud-config
groups: [devs, {ops: [alice]}]
users:
- {name: alice, primary_group: staff-only}
- {name: bob}
- {name: carol, uid: 1001}
- {name: dora, uid: 1500}
- {name: daemon7, system: true}
- {name: erik, primary_group: devs}
write_files:
- {path: /home/bob/.config/app/conf, owner: 'bob:bob', permissions: 420, content: x}
runcmd:
- awk -F':' '{print "id", $1, $3}' /etc/group
- awk -F':' '{print "uid", $1, $3, $4}' /etc/passwd
- stat -c 'file %n %a %U' /home/bob/.config /home/bob/.config/app /home/bob/.config/app/conf
- "[ -d /home/daemon7 ] || echo no home of daemon7"
"""


def test_numbers_of_users_and_groups_never_collide(machine):
    script = "#!/bin/sh\necho second part; exit 3\n".replace("\n", "\r\n")
    archive = [{"content": COLLIDING}, {"type": "text/x-shellscript", "content": script}]
    archive.append({"content": "#cloud-boothook\n#!/bin/sh\necho early\n"})
    machine.seed(hostname="ids", user_data=f"#cloud-config-archive\n{json.dumps(archive)}\n")
    machine.boot(until="READY ids ")
    words = [line.split() for line in machine.lines()]
    groups = {word[1]: int(word[2]) for word in words if word[:1] == ["id"]}
    users = {word[1]: (int(word[2]), int(word[3])) for word in words if word[:1] == ["uid"]}
    assert len(set(groups.values())) == len(groups)
    assert len({uid for uid, _ in users.values()}) == len(users)
    for name in ("bob", "carol", "dora", "daemon7"):
        assert users[name][1] == groups[name]
    assert users["dora"][0] == users["dora"][1] == 1500
    assert users["erik"][1] == groups["devs"]
    assert users["daemon7"][0] < 1000
    made = {word[1]: word[2:] for word in words if word[:1] == ["file"]}
    assert {path: owner for path, (_, owner) in made.items()} == dict.fromkeys(made, "bob")
    assert made["/home/bob/.config/app/conf"][0] == "644"
    lines = machine.lines()
    assert "no home of daemon7" in lines
    assert "second part" in lines
    assert "pileus: user-data ended with status 3" in lines
    assert lines.index("early") < lines.index("second part")


def test_a_failing_script_is_said_and_the_boot_goes_on(machine):
    machine.seed(hostname="odd", user_data="#!/bin/sh\nexit 7\n")
    machine.boot(until="READY odd ")
    assert "pileus: user-data ended with status 7" in machine.lines()


def test_without_seed_and_without_nic_it_boots_all_the_same_and_lets_nobody_in(tiny_linux, tmp_path):
    machine = Machine(tiny_linux, tmp_path / "m", nic=None, memory_mib=128)
    try:
        machine.boot(until="READY tiny-linux ")
        machine.wait_for("login:")
        machine.type("root", "Password:")
        machine.type("", "incorrect")
    finally:
        machine.close()


def test_a_nic_has_the_address_that_the_seed_gives_it(tiny_linux, tmp_path):
    # A user-mode network without IPv4 has no DHCP server. The address is the one that QEMU gives a NIC of itself.
    machine = Machine(tiny_linux, tmp_path / "m", nic="ipv4=off,ipv6=on")
    try:
        machine.seed(hostname="given", nics=(Nic("52:54:00:12:34:56", "192.0.2.7/24"),))
        machine.boot(until="READY given ")
        assert "pileus: eth0 has the address 192.0.2.7/24" in machine.lines()
    finally:
        machine.close()


def test_an_unanswered_dhcp_delays_the_boot_by_three_seconds_at_most(tiny_linux, tmp_path):
    # A user-mode network without IPv4 has no DHCP server.
    machine = Machine(tiny_linux, tmp_path / "m", nic="ipv4=off,ipv6=on")
    try:
        machine.seed(hostname="alone")
        machine.boot(until="READY alone ")
        assert "pileus: eth0 has no DHCP answer yet: going on, asking in the background" in machine.lines()
    finally:
        machine.close()


def test_ssh_lets_in_the_authorised_key_and_no_password(tiny_linux, tmp_path):
    port = free_port()
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    machine = Machine(tiny_linux, tmp_path / "m", nic=f"hostfwd=tcp:127.0.0.1:{port}-:22")
    options = "StrictHostKeyChecking=no UserKnownHostsFile=/dev/null LogLevel=ERROR BatchMode=yes ConnectTimeout=20"
    ssh = ["ssh", "-p", str(port), *(part for option in options.split() for part in ("-o", option)), "-F", "none"]
    try:
        machine.seed(hostname="shell", keys=(key.with_suffix(".pub").read_text().strip(),))
        machine.boot()
        done = subprocess.run(
            [*ssh, "-i", str(key), "root@127.0.0.1", "hostname; id -un"], capture_output=True, text=True, check=False
        )
        assert done.stdout == "shell\nroot\n", done.stderr
        done = subprocess.run(
            [*ssh, "-v", "-o", "IdentityFile=none", "root@127.0.0.1", "true"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 255
        assert "Permission denied (publickey)" in done.stderr
        scan = f"ssh-keyscan -t ed25519 -p {port} 127.0.0.1 | ssh-keygen -lf -"
        served = subprocess.run(["sh", "-c", scan], capture_output=True, text=True, check=True).stdout
        assert served.split()[1] == fingerprint(machine.host_key.public)
        (shown,) = [line for line in machine.lines() if "SSH host key" in line]
        assert served.split()[1] in shown
        started = time.monotonic()
        subprocess.run([*ssh, "-i", str(key), "root@127.0.0.1", "reboot"], capture_output=True, check=False)
        after = len(machine.console)
        machine.wait_for("READY shell ", 90, after=after)
        assert time.monotonic() - started < 90
    finally:
        machine.close()


def test_strangers_cannot_use_up_its_memory_with_ssh_connections(tiny_linux, tmp_path):
    port = free_port()
    machine = Machine(tiny_linux, tmp_path / "m", nic=f"hostfwd=tcp:127.0.0.1:{port}-:22")

    def connect() -> tuple[socket.socket, bytes]:
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        return connection, connection.recv(64)

    try:
        machine.seed(hostname="shell")
        machine.boot()
        held = [connect() for _ in range(30)]
        assert all(banner.startswith(b"SSH-2.0-") for _, banner in held)
        one_too_many, banner = connect()
        assert banner == b""
        one_too_many.close()
        for connection, _ in held:
            connection.close()
        wait_until(lambda: connect()[1], 60)
    finally:
        machine.close()


def test_a_seed_in_the_initramfs_is_read_without_a_seed_disk(machine, tmp_path):
    from images import cpio
    from images.tree import Tree

    seed = Tree()
    seed.file("cidata/meta-data", "instance-id: i\nlocal-hostname: inside\n")
    seed.file("cidata/user-data", "#!/bin/sh\necho from the initramfs\n")
    both = tmp_path / "initrd"
    both.write_bytes(machine.files["initrd"].read_bytes() + cpio.archive(seed))
    machine.files["initrd"] = both
    machine.boot(until="READY inside ")
    assert "from the initramfs" in machine.lines()
