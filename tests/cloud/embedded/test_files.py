"""Root's work beside folders of others: whatever lies there, it touches and reads nothing else."""

import os
import re
import stat
from pathlib import Path

import pytest

from cloud.embedded import files, guests, paths
from cloud.embedded.files import make_folder, read_file, write_file
from cloud.embedded.folders import make_folders
from cloud.embedded.memory import FIRST_UID, UIDS_OF_A_CLOUD, Memory, first_uid_of
from cloud.embedded.paths import TREE, Home

OTHER = (65_534, 65_534)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")


HOSTILE = {
    "a link": lambda place, secret: place.symlink_to(secret),
    "a link into nowhere": lambda place, secret: place.symlink_to(secret.with_name("none")),
    "a FIFO": lambda place, secret: os.mkfifo(place),
    "a folder": lambda place, secret: place.mkdir(),
    "a device": lambda place, secret: os.mknod(place, 0o666 | stat.S_IFCHR, os.makedev(1, 5)),
    "an endless file": lambda place, secret: os.truncate(os.open(place, os.O_CREAT | os.O_RDWR), 2**40),
}


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "secret"
    file.write_text("of root")
    file.chmod(0o600)
    return file


def untouched(file: Path) -> bool:
    found = file.lstat()
    return file.read_text() == "of root" and stat.S_IMODE(found.st_mode) == 0o600 and found.st_uid == os.geteuid()


@pytest.mark.parametrize("plant", HOSTILE.values(), ids=HOSTILE)
def test_reading_refuses_what_is_no_small_regular_file_and_waits_for_nothing(plant, tmp_path, secret):
    folder = make_folder(tmp_path / "theirs")
    plant(folder / "image.json", secret)
    with pytest.raises(PermissionError):
        read_file(tmp_path, "theirs", "image.json")


def test_reading_follows_no_link_on_its_way(tmp_path, secret):
    (tmp_path / "theirs").symlink_to(tmp_path)
    with pytest.raises(PermissionError):
        read_file(tmp_path, "theirs", secret.name)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path, "none")
    assert read_file(tmp_path, secret.name) == b"of root"


@pytest.mark.parametrize("plant", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", ["conf", "conf.new"])
def test_writing_replaces_what_lies_there_and_never_what_it_leads_to(plant, name, tmp_path, secret):
    plant(tmp_path / name, secret)
    try:
        write_file(tmp_path / "conf", "fresh", group=os.getegid())
    except OSError:
        assert (tmp_path / name).is_dir()
    else:
        assert (tmp_path / "conf").read_text() == "fresh"
        assert stat.S_IMODE((tmp_path / "conf").lstat().st_mode) == 0o640
    assert untouched(secret)


@root_only
def test_writing_into_a_folder_of_others_is_refused(tmp_path):
    make_folder(tmp_path / "theirs", owner=OTHER)
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        write_file(tmp_path / "theirs" / "conf", "fresh")


@root_only
@pytest.mark.parametrize("plant", HOSTILE.values(), ids=HOSTILE)
def test_a_folder_is_made_and_given_away_only_when_it_is_one_of_ours_or_theirs(plant, tmp_path, secret):
    place = tmp_path / "place"
    plant(place, secret)
    if not place.is_dir():
        with pytest.raises(PermissionError):
            make_folder(place, mode=0o777, owner=OTHER)
    assert untouched(secret)
    theirs = make_folder(tmp_path / "theirs", owner=OTHER)
    assert make_folder(theirs, owner=OTHER) == theirs
    with pytest.raises(PermissionError, match="somebody else"):
        make_folder(theirs)


@root_only
def test_files_that_root_writes_lie_in_folders_of_root(tmp_path):
    home = Home(tmp_path / "home")
    account = type("Account", (), {"owner": OTHER})()
    os.environ["PILEUS_RUNTIME_DIR"] = str(tmp_path / "run")
    try:
        make_folders(home, account)
    finally:
        del os.environ["PILEUS_RUNTIME_DIR"]
    for folder in (home.root, home.secrets, home.log, home.servers, home.stamps, home.agent, home.memory.parent):
        assert folder.stat().st_uid == 0
    assert stat.S_IMODE(home.log.stat().st_mode) == 0o700


def test_the_description_of_a_built_image_is_read_with_care(tmp_path, secret):
    home = Home(tmp_path)
    make_folder(home.built_images)
    (home.built_images / "tiny").symlink_to(tmp_path)
    (tmp_path / "image.json").write_text("of somebody else")
    with pytest.raises(PermissionError):
        guests.described(home, str(home.built_images / "tiny"))


def test_nothing_else_in_the_package_sets_owners_and_modes_or_writes_by_path():
    """The others work in root's own folders, by the standard library alone."""
    forbidden = re.compile(r"\.chmod\(|chown\(|\.write_text\(|\.write_bytes\(|\.open\(\"[aw]|\.touch\(")
    alone = {"files.py", "publish.py", "get_pip.py", "supervisor.py", "system_packages.py", "testing.py"}
    sources = [file for file in (TREE / "cloud" / "embedded").glob("*.py") if file.name not in alone]
    assert {file.name: found for file in sources if (found := forbidden.findall(file.read_text()))} == {}


def test_a_log_is_for_nobody_else(tmp_path):
    with files.open_log(tmp_path / "x.log") as log:
        log.write(b"line\n")
    assert stat.S_IMODE((tmp_path / "x.log").stat().st_mode) == 0o600


def test_two_clouds_on_one_machine_have_other_users_for_their_machines(tmp_path):
    blocks = [first_uid_of(Home(path)) for path in (paths.DEFAULT_ROOT_HOME, tmp_path / "a", tmp_path / "b")]
    assert len(set(blocks)) == 3
    assert all((uid - FIRST_UID) % UIDS_OF_A_CLOUD == 0 and uid + UIDS_OF_A_CLOUD < 2**31 for uid in blocks)
    assert Memory.of(Home(tmp_path / "a")).first_uid == blocks[1]


def test_a_cloud_from_before_keeps_its_users(tmp_path):
    home = Home(tmp_path)
    make_folder(home.secrets)
    write_file(home.memory, '{"port": 8080}')
    assert Memory.of(home).first_uid == FIRST_UID
