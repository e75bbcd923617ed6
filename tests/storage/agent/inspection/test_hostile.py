"""Every kind of hostile file is refused in words, by looking alone: nothing that it names is opened."""

import contextlib
import os
import sys
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.agent.inspection.common import Limits, Machine, Unfit, Window
from storage.agent.inspection.inspector import inspect
from tests.storage.agent.inspection import hostile

LIMITS = Limits(virtual_bytes=1 << 40)


@pytest.fixture
def opened(tmp_path):
    """A window on a file with some content."""
    handles = []

    def make(content):
        path = tmp_path / "uploaded"
        path.write_bytes(content)
        handles.append(os.open(path, os.O_RDONLY))
        return Window.of(handles[-1])

    yield make
    for handle in handles:
        os.close(handle)


@pytest.fixture(scope="module")
def watched():
    """What Python opens, connects to or starts, from the last clearing on."""
    seen, on = [], [True]

    def watch(event, arguments):
        if on and event in ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.posix_spawn"):
            seen.append((event, str(arguments[0])))

    sys.addaudithook(watch)  # for good: Python has no way to take it back
    yield seen
    on.clear()


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_a_hostile_file_is_refused_in_words(kind, opened, watched):
    make, declared, words = hostile.KINDS[kind]
    file = opened(make())
    watched.clear()
    with pytest.raises(Unfit, match=f"(?s){words}") as refusal:
        inspect(file, declared, LIMITS)
    assert [name for event, name in watched if event != "open" or not name.endswith((".py", ".pyc"))] == []
    text = str(refusal.value)
    assert text[0].isupper()
    assert "root:x:0:0" not in text


def test_there_are_at_least_thirty_kinds_for_every_format():
    formats = {name.split("-")[0] for name in hostile.KINDS}
    assert {"qcow2", "raw", "vdi", "vmdk", "vhd", "vhdx", "iso", "ova", "ovf"} <= formats
    assert len(hostile.KINDS) > 150


@pytest.mark.parametrize(
    ("kind", "found"),
    [("vpc", "vhd"), ("fixed-vpc", "vhd"), ("stream", "vmdk")]
    + [(name, name) for name in ("qcow2", "raw", "vdi", "vmdk", "vhdx")],
)
def test_a_sound_file_is_taken_for_what_it_is(kind, found, opened):
    for declared in (found, None):
        result = inspect(opened(hostile.sound(kind)), declared, LIMITS)
        assert (result.format, len(result.disks)) == (found, 1)
        assert 0 <= result.disks[0].virtual_bytes - hostile.SIZE < 64 << 10  # a VHD is rounded up to whole cylinders


def test_an_appliance_says_what_its_machine_needs(opened):
    result = inspect(opened(hostile.ova()()), "ova", LIMITS)
    assert result.machine is not None
    assert result.machine == Machine(name="web", cpus=2, memory_mib=512, firmware="bios", nics=1)
    (disk,) = result.disks
    assert (disk.name, disk.format, disk.virtual_bytes) == ("disk1.vmdk", "vmdk", hostile.SIZE)
    assert disk.offset > 0
    assert disk.size == len(hostile.sound("stream"))


def test_a_manifest_that_holds_is_no_hindrance(opened):
    result = inspect(opened(hostile.with_manifest("SHA256(disk1.vmdk)= {disk}")()), "ova", LIMITS)
    assert result.notes == ()


def test_an_archive_may_be_packed_by_hand(opened):
    """With the folder itself, names that begin with “./”, and what macOS adds."""
    folder = tarfile.TarInfo()
    folder.type = tarfile.DIRTYPE
    members = (
        ("./", folder),
        ("./web.ovf", hostile.ovf()),
        ("./._web.ovf", b"\0"),
        ("./disk1.vmdk", hostile.sound("stream")),
    )
    for how in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert len(inspect(opened(hostile.tar(*members, how=how)), "ova", LIMITS).disks) == 1


def test_the_footer_of_a_stream_counts(opened):
    assert inspect(opened(hostile.footed()), "vmdk", LIMITS).disks[0].virtual_bytes == hostile.SIZE


@pytest.mark.parametrize("kind", hostile.OPTIONS)
def test_a_file_that_was_cut_off_anywhere_is_no_fault_of_ours(kind, opened):
    content = hostile.sound(kind)
    for length in {1, 3, 17, 511, 512, 513, 1024, 4096, 65536, 65536 * 3 + 7, len(content) // 2, len(content) - 1}:
        with contextlib.suppress(Unfit):
            assert inspect(opened(content[:length]), None, LIMITS).format != "raw" or length % 512 == 0


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from([*sorted(hostile.OPTIONS), "ova"]),
    changes=st.lists(st.tuples(st.integers(0, 4096), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4),
    where=st.sampled_from([0, 1]),
)
def test_whatever_is_in_a_header_is_no_fault_of_ours(kind, changes, where, opened):
    content = hostile.ova()() if kind == "ova" else hostile.sound(kind)
    places = [(offset if where == 0 else max(0, len(content) - 4096 + offset), piece) for offset, piece in changes]
    with contextlib.suppress(Unfit):
        assert inspect(opened(hostile.patched(content, *places)), None, LIMITS).disks
