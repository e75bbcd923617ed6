"""TCP ports: who has one, and which is free."""

import secrets
import socket
import time

import psutil

from cloud.embedded.errors import Trouble

# Below the kernel's ephemeral range, so that a port kept between runs is not somebody's outgoing connection.
REDIS_PORTS = range(6480, 6580)
SECONDS_TO_BECOME_FREE = 5.0


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


def becomes_free(port: int) -> bool:
    """Whether the port is free now or soon: the process that had it may be just ending."""
    until = time.monotonic() + SECONDS_TO_BECOME_FREE
    while not is_free(port):
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
    """Raises PortTaken with what to do about it; also for ports that only root may open."""
    if is_free(port, address):
        return
    if port < 1024:
        raise PortTaken(
            f"port {port} cannot be opened (ports below 1024 need root); choose another: {variable}=8081 ./pileus up"
        )
    by = holder(port)
    raise PortTaken(
        f"port {port} on {address} is taken by {by or 'another process'}; stop it, or choose another: "
        f"{variable}={next_free(range(port + 1, port + 100), address)} ./pileus up"
    )


def some_free(ports: range) -> int:
    """A free port from anywhere in the range: others who choose at this moment hardly take the same."""
    some = ports.start + secrets.randbelow(len(ports))
    try:
        return next_free(range(some, ports.stop))
    except PortTaken:
        return next_free(ports)


def next_free(ports: range, address: str = "127.0.0.1") -> int:
    for port in ports:
        if is_free(port, address):
            return port
    raise PortTaken(f"no port between {ports.start} and {ports.stop - 1} is free on {address}")
