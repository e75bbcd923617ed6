"""Guest agents for tests: one in the test's own process beside a fake machine, and one for a real tiny-linux."""

import json
import socket
import threading
from typing import Any, Self

from compute.agent.guests import Guests
from compute.agent.homes import Home
from tests.fakes import ComputeHost

COMMANDS = ("guest-info", "guest-fsfreeze-freeze", "guest-fsfreeze-thaw", "guest-set-user-password")


class FakeAgent(threading.Thread):
    """Answers on a machine's channel as the QEMU guest agent does. What it does not know, it declines."""

    def __init__(self, home: Home, *commands: str) -> None:
        super().__init__(daemon=True)
        self.commands = commands or COMMANDS
        self.is_frozen = False
        self.is_silent = False  # it has hung
        self.disks = 1  # file systems that it freezes
        self.passwords: dict[str, str] = {}
        self.heard: list[str] = []
        self.ignored = 0
        home.agent_socket.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(home.agent_socket))
        self._listener.listen()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *of: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.join(10)

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as channel:
                for line in channel:
                    if self.is_silent:
                        self.ignored += 1
                        continue
                    asked = json.loads(line.lstrip(b"\xff"))
                    delimiter = b"\xff" if asked["execute"] == "guest-sync-delimited" else b""
                    try:
                        channel.write(delimiter + json.dumps(self._answer(asked)).encode() + b"\n")
                        channel.flush()
                    except OSError:
                        break

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        command, arguments = asked["execute"], asked["arguments"]
        if command == "guest-sync-delimited":
            return {"return": arguments["id"]}
        self.heard.append(command)
        if command not in self.commands:
            return {"error": {"class": "CommandNotFound", "desc": "\x1b[31mhostile words"}}
        if command == "guest-info":
            known = [{"name": name, "enabled": True, "success-response": True} for name in self.commands]
            return {"return": {"version": "7.2.0", "supported_commands": known}}
        if command == "guest-set-user-password":
            if arguments["username"] not in ("root", "debian"):
                return {"error": {"class": "GenericError", "desc": "no such user"}}
            self.passwords[arguments["username"]] = arguments["password"]
            return {"return": {}}
        was_frozen, self.is_frozen = self.is_frozen, command == "guest-fsfreeze-freeze"
        return {"return": self.disks if self.is_frozen or was_frozen else 0}


def look(node: ComputeHost, machine_id: str) -> bool:
    """As the node's own thread does when something has happened to a machine."""
    return Guests(node, node.machines, node.tools).look(machine_id)


# User data. Freezes the root file system in earnest, and writes all the time, unless it is frozen.
AGENT_OF_TINY_LINUX = r"""#!/bin/sh
modprobe virtio_console
(
    until [ -e /dev/vport*p1 ]; do sleep 0.1; done
    exec 3<>$(echo /dev/vport*p1)
    echo "AGENT listens" >/dev/console
    while :; do
        IFS= read -r line <&3 || { sleep 0.1; continue; }
        case "$line" in
        *guest-sync-delimited*)
            id=${line##*: }
            printf '\377{"return": %s}\n' "${id%%\}*}" >&3
            ;;
        *guest-info*)
            known=
            for name in info fsfreeze-freeze fsfreeze-thaw set-user-password; do
                known="$known${known:+, }{\"name\": \"guest-$name\", \"enabled\": true}"
            done
            printf '{"return": {"version": "0.tiny", "supported_commands": [%s]}}\n' "$known" >&3
            ;;
        *fsfreeze-freeze*)
            fsfreeze --freeze / && echo '{"return": 1}' >&3 || echo '{"error": {}}' >&3
            ;;
        *fsfreeze-thaw*)
            if fsfreeze --unfreeze / 2>/dev/null; then
                echo '{"return": 1}' >&3
                echo "AGENT thawed" >/dev/console
            else
                echo '{"return": 0}' >&3
            fi
            ;;
        *set-user-password*)
            password=${line##*'"password": "'}
            password=${password%%'"'*}
            echo "root:$(echo "$password" | base64 -d)" | chpasswd -e
            echo '{"return": {}}' >&3
            echo "AGENT set a password" >/dev/console
            ;;
        *) echo '{"error": {}}' >&3 ;;
        esac
    done
) &
(
    n=0
    while :; do
        n=$((n + 1))
        dd if=/dev/urandom of=/root/more-$((n % 8)) bs=64k count=4 conv=fsync 2>/dev/null
        echo "WROTE $n" >/dev/console
    done
) &
"""
