"""Snapshots of real Linux guests: saved, gone on from, again and again, and by many at once."""

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from compute.agent import nocloud
from compute.agent.nics import OWN_NETWORK_ADDRESS, Nic
from compute.ssh import fingerprint
from tests.compute.agent.unicorn.guest import Guest

# One guest at a time needs no machine to itself, only one processor.
pytestmark = pytest.mark.timeout(900)
LOG_IN = "#cloud-config\nchpasswd: {expire: false, list: ['root:secret']}\n"
RESTORES = 200
CLONES = 10


@pytest.fixture
def golden(make_linux) -> Guest:
    """A guest that is up, with a shell on its console."""
    guest = make_linux(memory_mib=128, user_data=LOG_IN, hostname="golden").start()
    guest.wait_for("READY golden")
    log_in(guest)
    return guest


def log_in(guest: Guest) -> None:
    deadline = time.monotonic() + 60
    while b"login:" not in guest.console:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    guest.type_keys("root\n")
    while b"assword:" not in guest.console:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    guest.type_keys("secret\n")
    guest.type("stty -echo; PS1=; echo in''side", "inside")


def clone_of(
    golden: Guest, snapshot: Path, home: Path, number: int, user_data: str = LOG_IN, nics: Sequence[Nic] = ()
) -> Guest:
    """A guest that goes on from a snapshot, with a copy of the disk as it was and an identity of its own."""
    home.mkdir()
    shutil.copy(golden.home / "disk.qcow2.saved", home / "disk.qcow2")
    nics = nics or (Nic(f"52:54:00:00:01:{number:02x}", OWN_NETWORK_ADDRESS),)
    hostname = f"clone-{number}"
    disks = [dict(disk) for disk in golden.description["disks"]]
    disks[0]["path"], disks[1]["path"] = str(home / "disk.qcow2"), str(home / "seed.iso")
    host_key = Guest.write_seed(home, hostname, user_data, nics)
    described = {"disks": disks, "nics": Guest.isolated(nics, hostname), "restore": str(snapshot)}
    description = golden.description | described
    for name, file in (("control", "c"), ("serial", "s"), ("console_log", "console.log")):
        description[name] = str(home / file)
    clone = Guest(home, **description)
    clone.host_key = host_key
    return clone


def save(golden: Guest, directory: Path) -> dict[str, object]:
    """A snapshot, and its disk as it was then."""
    golden("pause")
    saved = golden("snapshot", directory=str(directory))
    shutil.copy(golden.home / "disk.qcow2", golden.home / "disk.qcow2.saved")
    golden("resume")
    return saved


def test_it_goes_on_from_a_snapshot_two_hundred_times(golden, tmp_path):
    golden.type("n=41; sync; sleep 1; echo re''ady", "ready")
    save(golden, tmp_path / "snapshot")
    took = []
    for number in range(RESTORES):
        began = time.monotonic()
        golden("restore", directory=str(tmp_path / "snapshot"), generation="same")
        golden("resume")
        # The variable is as it was saved: what the run before made of it is gone.
        said = golden.type(f"n=$((n + 1)); echo ru''n {number} n=$n $(printf %s x | md5sum)", f"run {number} n=")
        took.append(time.monotonic() - began)
        assert said == f"run {number} n=42 9dd4e461268c8034f5c8564e155c67a6 -"
    assert golden("stats")["hart"]["traps"] > 0
    print(f"restore to answer: median {sorted(took)[len(took) // 2] * 1000:.0f} ms")


def test_a_guest_saved_while_it_computes_ends_with_the_same_result(golden, tmp_path):
    golden.type("head -c 3000000 /dev/zero | md5sum; echo first", "first")
    expected = re.findall(r"[0-9a-f]{32}  -", golden.text)[-1]
    golden.type_keys("for i in 1 2 3 4; do head -c 3000000 /dev/zero | md5sum; done; echo en''ded\n")
    time.sleep(0.3)
    save(golden, tmp_path / "snapshot")
    golden.wait_for("ended")
    after = len(golden.console)
    golden("restore", directory=str(tmp_path / "snapshot"), generation="same")
    golden("resume")
    golden.wait_for("ended", after=after)
    sums = re.findall(r"[0-9a-f]{32}  -", golden.text)[-8:]
    assert set(sums) == {expected}


def test_clones_are_different_people(golden, open_home, tmp_path):
    golden.type("(sleep 600 | nc 127.0.0.1 22 >/tmp/ssh) & until grep SSH-2 /tmp/ssh; do sleep 1; done", "SSH-2")
    assert golden.type("echo ser''vers $(pidof dropbear | wc -w)", "servers ") == "servers 1"
    golden.type("sync; echo re''ady", "ready")
    save(golden, tmp_path / "snapshot")
    assert golden.quit() == 0
    clones = [clone_of(golden, tmp_path / "snapshot", open_home / f"c{number}", number) for number in range(CLONES)]
    try:
        for number, clone in enumerate(clones):
            clone.start()
            clone.wait_for(f"READY clone-{number} ")
        seen = []
        for number, clone in enumerate(clones):
            clone.type("ip -o link show eth0 | sed 's/^/link /'", f"52:54:00:00:01:{number:02x}")
            random = clone.type("echo entr''opy $(head -c 16 /dev/urandom | xxd -p)", "entropy ")
            key = "/etc/dropbear/dropbear_ed25519_host_key"
            host_key = clone.type(f"dropbearkey -y -f {key}", "Fingerprint: ").removeprefix("Fingerprint: ")
            assert clone.host_key is not None
            assert host_key == fingerprint(clone.host_key.public)
            assert f"SSH host key {host_key} (ed25519)" in clone.text
            assert clone.type("echo na''me $(hostname)", "name ") == f"name clone-{number}"
            # Who was signed in to the other machine is not signed in to this one.
            assert clone.type("echo ser''vers $(pidof dropbear | wc -w)", "servers ") == "servers 0"
            seen += [random, host_key]
            clone.quit()
        assert len(set(seen)) == 2 * CLONES
    finally:
        for clone in clones:
            clone.close()


@pytest.mark.parametrize("told", [True, False])
def test_every_nic_of_a_clone_is_its_own(make_linux, open_home, tmp_path, told):
    """`told`: whether the seed says addresses and host key; otherwise the guest finds them itself."""
    there = [Nic("52:54:00:00:00:01", OWN_NETWORK_ADDRESS), Nic("52:54:00:00:00:02")]
    golden = make_linux(memory_mib=128, user_data=LOG_IN, hostname="golden", nics=there).start()
    golden.wait_for("READY golden")
    assert "eth0 has the address 10.0.2.15/24" in golden.text, "given"
    assert "eth1 has the address 10.0.2.15/24" in golden.text, "asked for"
    log_in(golden)
    golden.type(
        "ip addr add 192.0.2.9/24 dev eth0; ip link set eth1 down name lan; ip link set lan up; echo don''e", "done"
    )
    golden.type("sync; echo re''ady", "ready")
    save(golden, tmp_path / "snapshot")
    assert golden.quit() == 0

    nics = [Nic("52:54:00:00:01:01", OWN_NETWORK_ADDRESS), Nic("52:54:00:00:01:02")]
    clone = clone_of(golden, tmp_path / "snapshot", open_home / "c", 0, nics=nics)
    if not told:
        seed = {"instance_id": "iid-clone-0", "hostname": "clone-0", "user_data": LOG_IN}
        files = nocloud.files(seed, nics, host_key=None)
        del files["network-config"]
        (clone.home / "seed.iso").write_bytes(nocloud.iso(files))
    try:
        clone.start()
        clone.wait_for("READY clone-0 ")
        (key,) = re.findall("SSH host key SHA256:(.{43})", clone.text)
        assert key not in golden.text
        for name, nic in zip(("eth0", "lan" if told else "eth1"), nics, strict=True):
            clone.type(f"echo mac $(cat /sys/class/net/{name}/address)", f"mac {nic.mac}")
            link_local = f"fe80::5054:ff:fe00:{nic.mac[-5:].replace(':', '')[1:]}/64"
            until = (
                f"until ip -o addr show {name} | grep -q {link_local}; do sleep 0.1; done"  # which is made by itself
            )
            addresses = f"echo addr''esses $(ip -o addr show {name} | awk '{{ print $4 }}')"
            assert clone.type(f"{until}; {addresses}", "addresses ") == f"addresses 10.0.2.15/24 {link_local}"
    finally:
        clone.close()


def test_a_clone_without_a_seed_says_that_it_is_nobody_new(golden, open_home, tmp_path):
    golden.type("sync; echo re''ady", "ready")
    save(golden, tmp_path / "snapshot")
    assert golden.quit() == 0
    clone = clone_of(golden, tmp_path / "snapshot", open_home / "c", 0)
    (clone.home / "seed.iso").write_bytes(bytes(1 << 16))
    try:
        clone.start()
        assert clone.wait_for("woken, but").endswith("this machine stays who it was: there is no seed on /dev/vdb")
        assert clone.type("echo na''me $(hostname)", "name ") == "name golden"
    finally:
        clone.close()
