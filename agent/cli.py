"""`pileus-agent`: join a control plane, run this host's worker and node service, look at and stop what is on it.

What a command needs is imported by it: the node service stays small without the rest. An app adds a command by a module
`<app>/agent/command.py` with NAME, HELP, `add_options(parser)` and `run(paths, options)`.
"""

import argparse
import contextlib
import json
import logging
import os
import socket
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from agent import apps
from agent.errors import Refused, Unreachable
from agent.membership import Membership
from agent.paths import Paths
from agent.restarts import Restarts

if TYPE_CHECKING:
    from agent.host import Host

TOKEN_VARIABLE = "PILEUS_JOIN_TOKEN"  # noqa: S105
CONFINED = ("uid", "capabilities", "seccomp", "cgroup")


def main(arguments: list[str] | None = None) -> int:
    """The console script; returns the exit status."""
    parser = argparse.ArgumentParser(prog="pileus-agent", description=__doc__)
    parser.add_argument("--home", help="the agent's state (default: $PILEUS_AGENT_HOME)")
    commands = parser.add_subparsers(dest="command", required=True)
    join = commands.add_parser("join", help="become a host of the control plane at URL")
    join.add_argument("url")
    join.add_argument(
        "token",
        nargs="?",
        help="a one-time token made by an admin, “-”: from standard input, none: from "
        f"${TOKEN_VARIABLE}. Other users of this machine can read a command's arguments",
    )
    join.add_argument("--name", default=socket.gethostname().split(".")[0])
    join.add_argument("--unconfined", action="store_true", help="join although layers of the jail are missing")
    worker = commands.add_parser("worker", help="obey the control plane; runs until it is stopped")
    node = commands.add_parser("node", help="answer for what is on this host: consoles; runs until it is stopped")
    status = commands.add_parser("status", help="list the machines of this host")
    capabilities = commands.add_parser("capabilities", help="what this host can run and how, as JSON")
    stop_all = commands.add_parser(
        "stop-all", help="switch all machines off; they run again with this host's next worker. Stop the worker before"
    )
    stop_all.add_argument("--grace", type=float, default=30.0, help="seconds a guest has to switch itself off")
    of_apps = {module.NAME: module for module in apps.modules("command")}
    added = [commands.add_parser(name, help=module.HELP) for name, module in of_apps.items()]
    for parser_of_app, module in zip(added, of_apps.values(), strict=True):
        module.add_options(parser_of_app)
    for command in (join, worker, node, status, capabilities, stop_all, *added):
        command.add_argument("--home", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    runs_on = options.command in ("worker", "node", *of_apps)
    _configure_log(logging.INFO if runs_on else logging.WARNING)
    paths = Paths.from_environment(options.home)
    try:
        run = of_apps[options.command].run if options.command in of_apps else COMMANDS[options.command]
        with Restarts(paths).noted(options.command) if runs_on else contextlib.nullcontext():
            return int(run(paths, options))
    except (Refused, Unreachable, OSError) as problem:
        print(f"pileus-agent: {problem}", file=sys.stderr)
        return 1


def _join(paths: Paths, options: argparse.Namespace) -> int:
    if paths.membership.exists():
        member = Membership.read(paths.membership)
        raise Refused(f"this host is {member.name} of {member.url} already ({paths.membership})")
    host = _host(paths, options.url)
    missing = [f"{layer}: {why}" for layer, why in host.tools.jail.missing.items() if layer in CONFINED]
    if missing and not options.unconfined and os.environ.get("PILEUS_EMBEDDED") != "1":
        raise Refused("machines could not be confined here (--unconfined joins all the same): " + "; ".join(missing))
    for line in missing:
        print(f"warning: machines are less confined here: {line}", file=sys.stderr)
    problems = [kind.problem() for kind in host.kinds.values() if kind.suffices]
    if all(problems):
        raise Refused("; ".join(dict.fromkeys(problems)))
    member = host.control_plane.join(
        token=_join_token(options.token), name=options.name, capacity=host.capacity(), capabilities=host.capabilities()
    )
    member.write(paths.membership)
    print(f"joined {member.url} as {member.name}")
    return 0


def _join_token(given: str | None) -> str:
    """The one-time token: as an argument, on standard input, or in the environment. Raises Refused."""
    token = sys.stdin.readline().strip() if given == "-" else given or os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        raise Refused(f"a token is needed to join: as an argument, with “-” on standard input, or in ${TOKEN_VARIABLE}")
    return token


def _worker(paths: Paths, options: argparse.Namespace) -> int:
    from agent.worker import run

    try:
        member = Membership.read(paths.membership)
    except FileNotFoundError as error:
        raise Refused(f"this host has not joined a control plane: there is no {paths.membership}") from error
    return run(paths, member)


def _serve(paths: Paths, options: argparse.Namespace) -> int:
    from agent.node_service import run

    return run(paths)


def _status(paths: Paths, options: argparse.Namespace) -> int:
    from agent import ledger

    if ledger.is_older(paths.ledger):
        raise Refused("this host's worker is older than this command: restart the worker first")
    host = _host(paths)
    for entry in host.ledger.entries():
        kind = host.kinds.get(entry.type)
        state = "quarantined" if entry.quarantined else entry.seen
        about = f"{entry.type} {entry.id}  {state:<11} wanted {entry.wanted:<8} generation {entry.generation:<4}"
        print(about, kind.describe(entry) if kind else "")
    return 0


def _capabilities(paths: Paths, options: argparse.Namespace) -> int:
    # The ledger is not needed here, and must not be migrated under an older worker that still runs.
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(_host(paths, ledger=Path(folder) / "ledger").capabilities(), indent=1))
    return 0


def _stop_all(paths: Paths, options: argparse.Namespace) -> int:
    host = _host(paths)
    entries = host.ledger.entries()
    if not entries:
        return 0
    last = {kind.type for kind in host.kinds.values() if kind.goes_last}
    stopped = 0
    with ThreadPoolExecutor(max_workers=min(32, len(entries))) as pool:
        for now in ([one for one in entries if (one.type in last) is goes_last] for goes_last in (False, True)):
            stopped += sum(pool.map(lambda entry: host.interrupt(entry, options.grace), now))
    print(f"{stopped} machine{'s' if stopped != 1 else ''} switched off")
    return 0


def _host(paths: Paths, url: str = "http://none.invalid", ledger: Path | None = None) -> "Host":
    from agent import jail, kinds
    from agent.control_plane import ControlPlane
    from agent.host import Host
    from agent.ledger import Ledger

    paths.make()
    tools = kinds.Tools(paths, Ledger(ledger or paths.ledger), ControlPlane(url), jail.probe(paths))
    kinds.register(tools)
    return Host(tools)


def _configure_log(level: int) -> None:
    """A line of JSON for each thing that happened, on stderr."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


COMMANDS = {
    "join": _join,
    "worker": _worker,
    "node": _serve,
    "status": _status,
    "capabilities": _capabilities,
    "stop-all": _stop_all,
}

if __name__ == "__main__":
    sys.exit(main())
