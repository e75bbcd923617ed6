"""Serial logs: small on disk, complete at the end, pushed when they change."""

from compute.agent import console_log
from compute.agent.console_log import ConsoleLogs


def logs(node):
    return ConsoleLogs(node.machines.homes, node.ledger, node.control_plane, lambda machine_id, freed: None)


def test_a_long_log_is_small_on_disk_and_keeps_its_offsets(tmp_path):
    path = tmp_path / "console.log"
    lines = b"".join(b"line %07d\n" % number for number in range(400_000))
    path.write_bytes(lines)
    console_log.trim(path)
    assert path.stat().st_size == len(lines)
    assert path.stat().st_blocks * 512 < 2 * console_log.MIN_KEPT_BYTES
    with path.open("ab") as file:
        file.write(b"one more\n")
    content, offset = console_log.read_end(path)
    assert offset == len(lines) + len(b"one more\n") - console_log.MAX_PUSHED_BYTES
    assert content == (lines + b"one more\n")[-console_log.MAX_PUSHED_BYTES :]


def test_a_short_log_is_left_alone(tmp_path):
    path = tmp_path / "console.log"
    path.write_bytes(b"x" * 1000)
    console_log.trim(path)
    assert console_log.read_end(path) == (b"x" * 1000, 0)


def test_only_changed_logs_are_pushed(obey, node, spec, control_plane):
    obey("ensure_running", spec)
    log = node.machine(spec["id"]).home.console_log
    pusher = logs(node)
    pusher.push_changed()
    assert control_plane.logs == {}
    log.write_bytes(b"booting\n")
    pusher.push_changed()
    assert control_plane.logs.pop(spec["id"]) == (0, b"booting\n")
    pusher.push_changed()
    assert control_plane.logs == {}
    with log.open("ab") as file:
        file.write(b"y" * 100_000)
    pusher.push_changed()
    offset, content = control_plane.logs[spec["id"]]
    assert (offset, len(content)) == (100_008 - 65536, 65536)


def test_a_log_that_is_a_trap_is_not_read(obey, node, spec, control_plane, tmp_path):
    obey("ensure_running", spec)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    log = node.machine(spec["id"]).home.console_log
    log.unlink()
    log.symlink_to(secret)
    logs(node).push_changed()
    assert control_plane.logs == {}
