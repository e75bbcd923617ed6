"""`./pileus down`, `restart`, `status` and `logs`."""

import contextlib
import json
import os
import shutil
import subprocess
from datetime import timedelta

import httpx
import psutil

from cloud.embedded import environment
from cloud.embedded.accounts import myself, service_account
from cloud.embedded.control_plane import OWN_SERVERS, ControlPlane, names
from cloud.embedded.errors import Trouble
from cloud.embedded.folders import make_folders, one_command_at_a_time
from cloud.embedded.machine_host import has_joined, tell_addresses
from cloud.embedded.memory import Memory
from cloud.embedded.paths import TREE, Home
from cloud.embedded.processes import PROCESSES
from cloud.embedded.screen import Screen
from cloud.embedded.supervision import Supervision
from cloud.embedded.told import told_by_environment

POWER_OFF_SECONDS = 45


def existing(home: Home) -> Memory:
    """What is remembered of the cloud here. Raises Trouble when there has never been one."""
    if not home.memory.exists():
        raise Trouble(f"there is no cloud in {home.root} yet; ./pileus up makes one")
    return Memory.of(home)


def down(home: Home) -> None:
    """Virtual machines off cleanly, as when a computer is shut down: they stay wanted, and `up` brings them back."""
    existing(home)
    with one_command_at_a_time(home), Screen() as screen:
        supervision = Supervision(home)
        with screen.step("Host worker"):
            supervision.stop(*names("host"))
        if has_joined(home):
            power_off_machines(home, screen)
        remove_networks(home)
        with screen.step("Control plane"):
            supervision.stop(*reversed(names("control")))
        with screen.step("Database"):
            supervision.stop(*reversed(OWN_SERVERS))
            supervision.leave()
        for folder in (home.postgres_sockets, home.streams_socket.parent, home.agent_sockets):
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            home.runtime.rmdir()
    print("  Everything is stopped; ./pileus up starts it again.")


def power_off_machines(home: Home, screen: Screen) -> None:
    with screen.step("Virtual machines") as step:
        step.note = "powering off"
        command = [str(home.venv / "bin" / "pileus-agent"), "stop-all", "--grace", str(POWER_OFF_SECONDS)]
        env = environment.host(home, Memory.of(home))
        done = myself().run(command, env=env, cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise Trouble(f"the virtual machines could not be powered off: {done.stdout.strip()[-600:]}")
        step.result = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "off"


def remove_networks(home: Home) -> None:
    """The machines' networks go with them; they are made again from the host's ledger."""
    command = [str(home.venv / "bin" / "pileus-agent"), "network", "--remove"]
    myself().run(command, env=environment.host(home, Memory.of(home)), cwd=TREE, stderr=subprocess.DEVNULL)


def restart(home: Home) -> None:
    """The control plane and the workers, with the code and settings of now. Machines are nobody's children."""
    before = existing(home)
    memory = told_by_environment(before)
    account = service_account()
    make_folders(home, account)
    with one_command_at_a_time(home), Screen() as screen:
        plane = ControlPlane(home, memory, account, screen)
        if not plane.supervision.is_up():
            raise Trouble("the cloud is down; ./pileus up starts it")
        plane.choose_ports(before)
        memory.keep(home)
        with screen.step("Stopping"):
            plane.supervision.stop(*names("host"), *reversed(names("control")))
        plane.start_servers()
        plane.migrate()
        plane.collect_static()
        plane.start(names("control"))
        if has_joined(home):
            tell_addresses(home, memory, memory.local_url)
        plane.supervision.start(*names("host"))
    print("  Restarted; virtual machines were left alone.")


def status(home: Home) -> bool:
    """Prints what runs; gives back whether everything does."""
    memory = existing(home)
    try:
        processes = Supervision(home).ask("status")
    except ConnectionError:
        print("  The cloud is down; ./pileus up starts it.")
        return False
    total = 0.0
    for process in processes:
        mib = memory_mib(process.pid) if process.pid else 0.0
        total += mib
        since = str(timedelta(seconds=int(process.seconds))) if process.pid else process.last_end
        print(f"  {process.name:<10} {process.state:<9} {process.pid or '':>8} {mib:>7.0f} MiB   {since}")
    supervisor = json.loads(home.pids.read_text())["supervisor"][0]
    own = memory_mib(supervisor, children=False)
    print(f"  {'supervisor':<10} {'running':<9} {supervisor:>8} {own:>7.0f} MiB")
    print(f"  {'together':<29} {total + own:>7.0f} MiB")
    with contextlib.suppress(httpx.HTTPError):
        ready = httpx.get(f"{memory.public_url}/readyz", timeout=5, trust_env=False)
        print(f"\n  {memory.public_url}  {'ready' if ready.is_success else ready.text[:200]}")
    return all(process.state == "running" for process in processes)


def memory_mib(pid: int | None, *, children: bool = True) -> float:
    """What a process and its children take, shared pages divided among those who share them (PSS)."""
    if pid is None:
        return 0.0
    total = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in [process, *(process.children(recursive=True) if children else [])]:
            with contextlib.suppress(psutil.Error):
                total += member.memory_full_info().pss / 2**20
    return total


def logs(home: Home, chosen: list[str]) -> None:
    """Follows the logs, all of them or those that were named."""
    known = {path.stem: path for path in sorted(home.log.glob("*.log"))}
    unknown = [name for name in chosen if name not in known]
    if unknown or not known:
        raise Trouble(f"no log of {', '.join(unknown) or 'anything'}; there are: {', '.join(known) or 'none'}")
    shown = chosen or [
        name for name in known if name in {*OWN_SERVERS, "supervisor", *(process.name for process in PROCESSES)}
    ]
    os.execvp("tail", ["tail", "-n", "20", "-F", *(str(known[name]) for name in shown)])
