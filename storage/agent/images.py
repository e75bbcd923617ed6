"""The kind `image`: work on disks. An import, by which a tenant's file or a disk of this host becomes an image, an
export of an image, or a backup of a volume.
"""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog

from agent import faults, folders
from agent.entries import Entry
from agent.errors import NoAnswer, Refused, told
from agent.host import Host
from agent.kinds import Kind, Sight, Tools
from agent.paths import make_passable
from agent.work import Work
from storage.agent import captures, exports
from storage.agent.backups import Backup
from storage.agent.cache_serving import Serving, held
from storage.agent.captures import Capture
from storage.agent.confined import Helpers
from storage.agent.drills import Drill
from storage.agent.exports import Export
from storage.agent.image_cache import ImageCache
from storage.agent.image_work import ImageWork
from storage.agent.imports import Import
from storage.agent.inspection.common import FORMATS, Unfit
from storage.agent.layers import Layers

log = structlog.get_logger()

TYPE = "image"
MAX_TOLD = 200  # files of the cache, in a heartbeat

faults.declare("image.before_remove")


class Images(Kind):
    """All imports, exports and backups of a host."""

    type = TYPE
    suffices = False
    is_slow = True
    verbs = {"ensure_present": "present", "ensure_gone": "gone"}

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self.directory = tools.paths.home / "imports"
        make_passable(self.directory)
        self.helpers = Helpers(tools.paths, tools.jail)
        self.layers = Layers(tools.paths, tools.jail)
        self.cache = ImageCache(tools.paths, tools.control_plane, tools.is_file_used, tools.problems)
        self.serving: Serving | None = None  # before the worker has begun

    def folder(self, import_id: str) -> Path:
        return self.directory / str(uuid.UUID(import_id))

    def obey(self, verb: str, entry: Entry, work: Work) -> Sight:
        folder = self.folder(entry.id)
        if verb == "ensure_gone":
            faults.reach("image.before_remove")
            captures.let_go(folder, self._tools.kinds)
            folders.remove(folder)
            return "gone", {}
        if problem := self.problem():
            raise Refused(problem)
        try:
            return "present", self._work(entry.spec, folder, work).run()
        except Unfit as unfit:
            folders.remove(folder)
            return "broken", {**told(unfit), "final": True}
        except (Refused, NoAnswer, OSError) as failure:
            folders.remove(folder)
            log.warning("the work on an image failed", id=entry.id, problem=str(failure))
            return "broken", {**told(failure), "final": False}

    def _work(self, spec: dict[str, Any], folder: Path, work: Work) -> ImageWork:
        if spec["source"]["kind"] == "files":
            return Export(spec, folder, self.helpers, self._tools.control_plane, work, self.cache)
        if spec["source"]["kind"] in ("machine", "layers", "volume"):
            common = (spec, folder, self.helpers, self._tools.control_plane, work)
            kind = Backup if spec["source"]["kind"] == "volume" else Capture
            return kind(*common, self.cache, self.layers, self._tools.kinds)
        if spec["source"]["kind"] == "backup":
            return Drill(spec, folder, self.helpers, self._tools.control_plane, work)
        return Import(spec, folder, self.helpers, self._tools.control_plane, work)

    def uses_file(self, entry: Entry, sha256: str) -> bool:
        source = entry.spec.get("source", {})
        files = [*(source.get("files") or []), *filter(None, [source.get("base")])]
        return any(file["sha256"] == sha256 for file in files)

    def strangers(self) -> Iterator[str]:
        for name in folders.names(self.directory):
            with contextlib.suppress(ValueError):
                yield str(uuid.UUID(name))

    def problem(self) -> str:
        return (
            ""
            if shutil.which("qemu-img")
            else "images can be neither imported nor exported on this host: qemu-img is not installed"
        )

    def start(self, host: Host) -> None:
        self.serving = Serving(self._tools.paths, self.helpers, self._tools.control_plane, self.cache, host.stopping)
        if self.serving.is_wanted:
            host.problems_of.append(self.serving.problems)
            self.serving.start()

    def tidy(self) -> None:
        self.cache.verify()

    def capabilities(self) -> dict[str, Any]:
        held_here = held(self.cache.directory, MAX_TOLD)
        serving = self.serving.describe() if self.serving else {}
        cache = {"image_cache": {**self.cache.usage(), "held": held_here, **serving}}
        if self.problem():
            return cache
        formats = {
            "import": list(FORMATS),
            "export": list(exports.FORMATS),
            "capture": True,
            "backup": True,
            "drill": True,
        }
        return {**cache, "images": {**formats, "confined": self.helpers.describe()}}

    def disk_bytes(self) -> int:
        folders_of = (self.folder(name) for name in self.strangers())
        files = [where / name for one in folders_of for where in (one, one / "out") for name in folders.names(where)]
        return sum(found.st_blocks * 512 for file in files if (found := folders.status(file)))
