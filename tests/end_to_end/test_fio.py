"""A judge that nobody here wrote: fio in a guest verifies what it has written, whatever is done with the volume.

Run by `./pileus test -m guests tests/end_to_end/test_fio.py`. The program comes into the guest on a volume, too.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from cloud.embedded import system_packages
from tests.clouds import wait_until

pytestmark = [pytest.mark.guests, pytest.mark.vm, pytest.mark.timeout(900)]

PROJECT = "/projects/demo"
VOLUME = f"{PROJECT}/volumes/work"
DISK_MIB = 256
MIB_PER_SECOND = 4  # so that it goes on for as long as the rest takes
VERIFIES = f"""#!/bin/sh
mkdir -p /tools
mount -t ext4 -o ro /dev/vdc /tools
echo "VERIFIES" >/dev/console
/tools/lib/ld-linux-x86-64.so.2 --library-path /tools/lib /tools/fio --name=verified --filename=/dev/vdb --rw=randrw \
    --bs=4k-64k --size=512m --io_size=300m --rate={MIB_PER_SECOND}m --direct=1 --ioengine=psync \
    --verify=crc32c --verify_fatal=1 --verify_backlog=64 --do_verify=1 >/dev/console 2>&1
echo "VERIFIED $?" >/dev/console
"""


@pytest.fixture
def tools(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A disk with fio and the libraries that it needs."""
    if "guests" not in request.config.option.markexpr:
        pytest.skip("installs fio: ./pileus test -m guests tests/end_to_end/test_fio.py")
    if missing := system_packages.install("fio", output=subprocess.DEVNULL):
        pytest.skip(system_packages.in_words(missing))
    program, tree = shutil.which("fio"), tmp_path / "tree"
    assert program is not None
    (tree / "lib").mkdir(parents=True)
    shutil.copy(program, tree)
    needs = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    for library in {word for word in needs.split() if word.startswith("/")}:
        shutil.copy(library, tree / "lib")
    disk = tmp_path / "tools.raw"
    with disk.open("wb") as file:
        file.truncate(DISK_MIB << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, disk], check=True)
    return disk


@pytest.fixture
def api(machine):
    with machine.api() as client:
        yield client


def made(answer):
    assert answer.status_code in (200, 201, 202, 204), answer.text
    return answer.json() if answer.content else {}


def is_free(api) -> bool:
    return api.get(VOLUME).json()["operation"] is None


def test_it_reads_what_it_wrote_whatever_is_done_with_the_volume(api, tools):
    made(api.post(f"{PROJECT}/images", json={"name": "tools", "source": {"kind": "upload", "format": "raw"}}))
    with tools.open("rb") as content:
        made(api.put(f"{PROJECT}/images/tools/file", content=content))
    wait_until(lambda: api.get(f"{PROJECT}/images/tools").json()["status"] == "ready", 120, 0.5, "the tools are there")
    made(api.post(f"{PROJECT}/volumes", json={"name": "tools", "image": "tools"}))
    made(api.post(f"{PROJECT}/volumes", json={"name": "work", "size_gib": 1}))
    volumes = [{"volume": "work"}, {"volume": "tools", "read_only": True}]
    body = {"name": "judge", "flavor": "tiny", "image": "tiny-linux", "user_data": VERIFIES, "volumes": volumes}
    made(api.post(f"{PROJECT}/instances", json=body))
    log = f"{PROJECT}/instances/judge/console-log"

    def said(words: str) -> bool:
        return any(line.startswith(words) for line in api.get(log, params={"lines": 500}).json()["lines"])

    wait_until(lambda: said("VERIFIES"), 120, 0.5, "fio begins")
    work = [("snapshot", {"name": f"work-{number}"}) for number in range(4)]
    work += [("resize", {"size_gib": 2}), ("backup", {"name": "work"}), ("clone", {"name": "copy"})]
    for verb, wishes in work:
        wait_until(lambda: is_free(api), 240, 0.2, f"nothing is under way before {verb}")
        made(api.post(f"{VOLUME}/{verb}", json=wishes))
    wait_until(lambda: is_free(api), 240, 0.2, "all of that is done")
    assert not said("VERIFIED"), "it went on meanwhile"
    made(api.delete(f"{PROJECT}/snapshots/work-1"))
    wait_until(lambda: said("VERIFIED"), 300, 0.5, "fio has read it all back")
    assert said("VERIFIED 0"), api.get(log, params={"lines": 60}).text
