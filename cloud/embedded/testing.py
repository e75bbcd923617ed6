"""`./pileus test` and `./pileus bench`: pytest on a PostgreSQL and a Valkey of its own, beside a running cloud.

Both servers live in a folder that goes at the end, also after Ctrl-C, and die with this process if it is killed.
"""

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cloud.embedded import ports, postgres, ratchet, system_packages, valkey
from cloud.embedded.accounts import Account, service_account
from cloud.embedded.files import make_folder
from cloud.embedded.paths import TREE, Home
from cloud.embedded.screen import Screen
from cloud.embedded.supervisor import PR_SET_PDEATHSIG

TEST_REDIS_PORTS = range(6580, 6680)
ON_REQUEST = "(benchmark or guests)"  # run by `./pileus bench`, and by `./pileus test -m guests`


@contextlib.contextmanager
def own_servers() -> Iterator[dict[str, str]]:
    """A throwaway PostgreSQL and Valkey, and folders; gives the environment that names them."""
    account = service_account()
    folder = Path(tempfile.mkdtemp(prefix="p-"))  # short: tests make Unix sockets far below it
    running: list[subprocess.Popen[bytes]] = []
    try:
        make_folder(folder, mode=0o755)
        sockets, cluster = folder / "s", folder / "postgres" / "18"
        configuration = make_folder(folder / "servers")
        postgres.prepare(cluster, sockets, configuration, account, throwaway=True)
        port, password = ports.next_free(TEST_REDIS_PORTS), secrets.token_urlsafe(16)
        valkey.prepare(folder / "valkey", configuration, account, port=port, password=password)
        running += [_server(valkey.server_command(configuration), account, folder / "valkey.log")]
        running += [_server(postgres.server_command(cluster, sockets, configuration), account, folder / "postgres.log")]
        redis_url, database_url = valkey.redis_url(port, password), postgres.database_url(sockets)
        postgres.wait_until_ready(database_url, create=True)
        valkey.wait_until_ready(redis_url)
        own_folders = {
            "PILEUS_HOME": folder / "home",
            "PILEUS_BACKUP_STORE": folder / "backups",
            "PILEUS_IMAGE_STORE": folder / "images",
            "PILEUS_STATIC_ROOT": folder / "static",
        }
        told = {name: str(make_folder(path)) for name, path in own_folders.items()}
        told["PYTEST_ADDOPTS"] = f"--basetemp={folder}/t {os.environ.get('PYTEST_ADDOPTS', '')}"
        yield told | {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    finally:
        for server in running:
            server.send_signal(signal.SIGINT)
        for server in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            server.kill()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _server(command: list[str], account: Account, log: Path) -> "subprocess.Popen[bytes]":
    prctl = ctypes.CDLL(None).prctl
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            start_new_session=True,  # Ctrl-C is pytest's; these are stopped when it has ended
            preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGINT),  # noqa: PLW1509 - no thread runs yet
            **account.popen_arguments(),
        )


def test(home: Home, arguments: list[str]) -> int:
    """pytest with these arguments, or else everything but what is on request."""
    _install_system_packages()
    with own_servers() as servers:
        env = environment_of_tests() | servers
        if arguments:
            return _pytest(arguments, env)
        return _everything(env)


def _install_system_packages() -> None:
    with Screen() as screen:
        if system_packages.missing("test"):
            with screen.step("System packages for the tests"):
                missing = system_packages.install("test", output=subprocess.DEVNULL)
            if missing:
                screen.say(f"  {system_packages.in_words(missing)}")


def _everything(env: dict[str, str]) -> int:
    env = env | _migrated(env)
    env = env | {"COVERAGE_FILE": str(Path(env["PILEUS_HOME"]).parent / "coverage")}
    workers = str(2 * (os.cpu_count() or 1))  # half of them have tests that wait most of the time: tests/scheduling.py
    code = _pytest(["-n", workers, "-m", f"not {ON_REQUEST}", *ratchet.ARGUMENTS], env)
    if code not in (0, 1):  # interrupted, or not begun: there is nothing to measure
        return code
    if said := ratchet.advice(ratchet.measured(env), ratchet.floor()):
        print(f"pileus: {said}", file=sys.stderr)
    return code


def _migrated(env: dict[str, str]) -> dict[str, str]:
    """Runs all migrations once, for each worker to copy what they made; gives the environment that says where."""
    migrate = [sys.executable, "-P", "-m", "django", "migrate", "--no-input", "--verbosity=0"]
    of_tests = {"DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(TREE)}
    subprocess.run(migrate, cwd=TREE, env=env | of_tests, check=True)
    return {"PILEUS_TESTS_TEMPLATE": postgres.DATABASE}


def bench(home: Home, arguments: list[str]) -> int:
    """The benchmarks, one at a time, with what they print. `storage` is short for tests/benchmarks/test_storage*.py.

    `--vs PATH` measures another checkout's code beside this one, where a benchmark can.
    """
    beside = {}
    if "--vs" in arguments[:-1]:
        at = arguments.index("--vs")
        beside["PILEUS_BENCH_VS"] = os.path.abspath(arguments[at + 1])
        arguments = arguments[:at] + arguments[at + 2 :]
    _install_system_packages()
    arguments = [path for argument in arguments for path in _benchmarks_of(argument) or [argument]]
    with own_servers() as servers:
        env = environment_of_tests() | servers | beside
        return _pytest(["-m", "benchmark", "-s", "--timeout", "1800", *(arguments or ["tests/benchmarks"])], env)


def _benchmarks_of(subject: str) -> list[str]:
    found = Path("tests/benchmarks").glob(f"test_{subject}*.py") if re.fullmatch("[a-z_]+", subject) else ()
    return sorted(map(str, found))


def environment_of_tests() -> dict[str, str]:
    """The caller's environment without what belongs to a running cloud."""
    of_a_cloud = ("PILEUS_URL", "PILEUS_PORT", "PILEUS_LISTEN", "PILEUS_AGENT_HOME", "PILEUS_RUNTIME_DIR")
    env = {name: value for name, value in os.environ.items() if name not in of_a_cloud}
    return env | {
        "PILEUS_SECRET_KEY": "of-tests-only",
        "PILEUS_EMBEDDED": "1",
        "DJANGO_SETTINGS_MODULE": "cloud.settings",
    }


def _pytest(arguments: list[str], env: dict[str, str]) -> int:
    process = subprocess.Popen([sys.executable, "-P", "-m", "pytest", *arguments], cwd=TREE, env=env)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # pytest got the same Ctrl-C from the terminal: it shows what it has, then ends.
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            return process.wait()
