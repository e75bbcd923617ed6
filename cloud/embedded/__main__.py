"""What `./pileus` hands over to, once there is a virtual environment."""

import errno
import os
import signal
import sys
from collections.abc import Callable

from cloud.embedded.errors import Trouble
from cloud.embedded.paths import Home


def up(home: Home, arguments: list[str]) -> int:
    from cloud.embedded.up import up as run

    run(home)
    return 0


def down(home: Home, arguments: list[str]) -> int:
    from cloud.embedded.down import down as run

    run(home)
    return 0


def restart(home: Home, arguments: list[str]) -> int:
    from cloud.embedded.down import restart as run

    run(home)
    return 0


def status(home: Home, arguments: list[str]) -> int:
    from cloud.embedded.down import status as run

    return 0 if run(home) else 1


def logs(home: Home, arguments: list[str]) -> int:
    from cloud.embedded.down import logs as run

    run(home, arguments)
    return 0


def manage(home: Home, arguments: list[str]) -> int:
    """manage.py beside the cloud that runs: with its settings, as its user."""
    from cloud.embedded import environment
    from cloud.embedded.accounts import service_account
    from cloud.embedded.down import existing
    from cloud.embedded.paths import TREE

    env = environment.control_plane(home, existing(home), process="manage")
    if terminal := os.environ.get("TERM"):
        env["TERM"] = terminal
    command = [str(home.venv / "bin" / "python"), "-P", str(TREE / "manage.py"), *arguments]
    return service_account().run(command, env=env, cwd=TREE).returncode


def image(home: Home, arguments: list[str]) -> int:
    from cloud.embedded.guests import offer

    if len(arguments) != 1:
        raise Trouble("say which guest: ./pileus image debian, or an architecture: ./pileus image riscv64")
    offer(home, arguments[0])
    return 0


def verify(home: Home, arguments: list[str]) -> int:
    return manage(home, ["verify", *arguments])


def check(home: Home, arguments: list[str]) -> int:
    from cloud.embedded.checks import check as run

    return run(home)


def test(home: Home, arguments: list[str]) -> int:
    from cloud.embedded.testing import test as run

    return run(home, arguments)


def bench(home: Home, arguments: list[str]) -> int:
    from cloud.embedded.testing import bench as run

    return run(home, arguments)


def lock(home: Home, arguments: list[str]) -> int:
    from cloud.embedded.lock import lock as run

    return run()


COMMANDS: dict[str, Callable[[Home, list[str]], int]] = {
    command.__name__: command
    for command in (up, down, restart, status, logs, image, verify, manage, check, test, bench, lock)
}


def main() -> int:
    # A closed terminal or a `kill` ends a command as Ctrl-C does: what it began is cleared up.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    command, *arguments = sys.argv[1:]
    try:
        return COMMANDS[command](Home.from_environment(), arguments)
    except Trouble as trouble:
        print(f"pileus: {trouble}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"pileus: the disk is full: {error.filename or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\npileus: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
