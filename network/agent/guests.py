"""What guests may read of themselves, as files beside their network's namespace: it outlives the process."""

import contextlib
from pathlib import Path

from network.agent import kept, networks
from network.agent.metadata import Guest, Server
from network.agent.specs import NetworkSpec

GUEST = "guest-"  # their names, before the port


class Guests:
    def __init__(self, directory: Path, metadata: Server) -> None:
        self._directory = directory
        self._metadata = metadata

    def introduce(self, spec: NetworkSpec, port: str, pages: dict[str, str]) -> None:
        """Say what the guest of a port may read."""
        guest = Guest.introduced(pages, self._metadata.guests.get(port))
        kept.replace(self._file(spec, port), guest.written())
        self._metadata.guests[port] = guest

    def forget(self, spec: NetworkSpec, port: str) -> None:
        """It reads nothing any more."""
        self._metadata.forget(port)
        self._file(spec, port).unlink(missing_ok=True)

    def keep(self, spec: NetworkSpec) -> None:
        """Of a network's guests those whose ports are here; what others could read is gone."""
        here = {port.id for port in spec.local}
        for file in (self._directory / networks.namespace(spec)).glob(f"{GUEST}*"):
            port = file.name.removeprefix(GUEST)
            if port not in here:
                self.forget(spec, port)
            elif port not in self._metadata.guests:
                with contextlib.suppress(OSError, ValueError, KeyError):
                    self._metadata.guests[port] = Guest.read(file.read_text())

    def _file(self, spec: NetworkSpec, port: str) -> Path:
        return self._directory / networks.namespace(spec) / f"{GUEST}{port}"
