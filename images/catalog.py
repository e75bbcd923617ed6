"""Systems that publish images of their own for clouds: where each is, where its checksum is, and what it needs.

for entry in entries(): …      # what an admin may import by name, where there is internet
checksum(sums, filename)       # the SHA-256 of a file in what a publisher calls SHA256SUMS or CHECKSUM
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

FILE = Path(__file__).parent / "catalog.json"
PLACE = ("url", "sums", "format")  # of an entry; all else is said of the image


@dataclass(frozen=True)
class Entry:
    """An image that is published somewhere. `sums`: a file of checksums beside it; "": its TLS has to do."""

    name: str
    version: str
    url: str
    format: str
    sums: str = ""
    properties: dict[str, object] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.version}"

    @property
    def filename(self) -> str:
        return self.url.rpartition("/")[2]


def entries(file: Path = FILE) -> list[Entry]:
    """All of them, as the file lists them: of several of one name the newest first."""
    found = []
    for told in json.loads(file.read_text()):
        own = {key: told.pop(key) for key in ("name", "version", *PLACE) if key in told}
        found.append(Entry(**own, properties=told))
    return found


def find(reference: str, file: Path = FILE) -> Entry | None:
    """By `name:version`, or by name: then the newest."""
    known = entries(file)
    return next((entry for entry in known if reference in (entry.reference, entry.name)), None)


def checksum(sums: str, filename: str) -> str:
    """The SHA-256 of a file, in the format of sha256sum or of BSD's; "" when it is not there."""
    name = re.escape(filename)
    gnu = re.search(rf"(?m)^([0-9a-f]{{64}}) [ *]{name}\s*$", sums)
    bsd = re.search(rf"(?m)^SHA256 \({name}\) = ([0-9a-f]{{64}})\s*$", sums)
    found = gnu or bsd
    return found[1] if found else ""
