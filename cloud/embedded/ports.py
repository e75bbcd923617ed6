"""TCP ports: who has one, and which is free.

To look whether a port is free, and open it a moment later, is a race: two clouds that came up together chose the same,
and one spoke to the other's servers. So who means to open a port takes it first: a socket in the kernel's abstract
namespace bears its number, for everybody in this network namespace, and goes with the process that made it.
"""

import socket
import time

import psutil

from cloud.embedded.errors import Trouble

# Below the kernel's ephemeral range, so that a port kept between runs is not somebody's outgoing connection.
REDIS_PORTS = range(6480, 6580)
SECONDS_TO_BECOME_FREE = 5.0
_taken: dict[str, socket.socket] = {}


class PortTaken(Trouble):
    """Somebody else listens there. The message says who, where the kernel lets us see it."""


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def take(port: int, address: str = "127.0.0.1", *, name: str = "port") -> bool:
    """Whether the port is free and nobody else is about to open it. If so it is this process's until that ends.

    A port of another `name` is another port: tests take those that they tell to a cloud, which takes them itself.
    """
    mark = f"\0pileus-{name}-{port}"
    if mark in _taken:
        return is_free(port, address)
    taken = socket.socket(socket.AF_UNIX)
    try:
        taken.bind(mark)
    except OSError:
        taken.close()
        return False
    if not is_free(port, address):
        taken.close()
        return False
    _taken[mark] = taken
    return True


def becomes_free(port: int) -> bool:
    """Takes the port if it is free now or soon: the process that had it may be just ending."""
    until = time.monotonic() + SECONDS_TO_BECOME_FREE
    while not take(port):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def holder(port: int) -> str | None:
    """The process that listens on a port, like `nginx (pid 812)`. None when we may not see it."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                return None
    return None


def require_free(port: int, address: str, *, variable: str) -> None:
    """Takes the port. Raises PortTaken with what to do about it; also for ports that only root may open."""
    if take(port, address):
        return
    if port < 1024:
        raise PortTaken(
            f"port {port} cannot be opened (ports below 1024 need root); choose another: {variable}=8081 ./pileus up"
        )
    by = holder(port) or ("another `./pileus up`" if is_free(port, address) else "another process")
    raise PortTaken(
        f"port {port} on {address} is taken by {by}; stop it, or choose another: "
        f"{variable}={next_free(range(port + 1, port + 100), address)} ./pileus up"
    )


def next_free(ports: range, address: str = "127.0.0.1", *, name: str = "port") -> int:
    """Takes the first free port of the range."""
    for port in ports:
        if f"\0pileus-{name}-{port}" not in _taken and take(port, address, name=name):
            return port
    raise PortTaken(f"no port between {ports.start} and {ports.stop - 1} is free on {address}")
