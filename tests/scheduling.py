"""Which tests stay in one worker of those that run side by side, and how many heavy ones run at once.

pytest-xdist's own groups (`xdist_group`) are passed over in silence with pytest 9.2:
https://github.com/pytest-dev/pytest-xdist/issues/1386
"""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

# Marks of tests that boot machines, drive a browser or kill whole clouds. They wait for guests and pages most of the
# time: half of the workers have them, and light tests in the others use the processors meanwhile.
HEAVY = {"vm", "browser"}
UNICORN = "tests/compute/agent/unicorn"
# Whole clouds, of which one is made for all, and which share this host's addresses.
CLOUDS = (
    "consoles", "dashboard_vm", "faults", "faults_embedded", "images", "lifecycle", "one_machine", "upgrade",
    "without_qemu",
)  # fmt: skip
TOGETHER = {
    **{f"tests/end_to_end/test_{name}.py": "whole clouds" for name in CLOUDS},
    # One cuts off connections that have not signed in yet: that would meet those of another.
    "tests/cloud/hosts/test_redis_acl.py": "logins at Redis",
    **dict.fromkeys(("tests/storage/test_ceph.py", "tests/storage/test_ceph_in_a_guest.py"), "one Ceph cluster"),
    f"{UNICORN}/test_linux.py": "emulated guests",
    f"{UNICORN}/test_snapshots.py": "emulated guests",
}


# Files that have servers, browsers or hosts for all of their tests: to make those takes seconds, in each worker anew.
WHOLE = (
    "tests/cloud/api/test_slow_clients.py",
    "tests/cloud/api/test_wire.py",
    "tests/cloud/dashboard/test_every_page.py",
    "tests/cloud/embedded/test_servers.py",
    "tests/cloud/streams/",
    "tests/end_to_end/",
    "tests/network/agent/",
    "tests/storage/api/test_fetching",
    "tests/storage/api/test_sending.py",
    "tests/test_generated_client.py",
)
APART = "tests/end_to_end/test_dashboard_pages.py"  # each of its tests takes a minute


class InGroups(LoadScopeScheduling):
    """Each test by itself, and what is together by what it is called there. What has the most tests comes first.

    A worker takes what is heavy while fewer than half of all have any, and otherwise what is light; and the other
    kind when its own has run out.
    """

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        self._heavy: set[str] = set()
        self._heavy_at_once = max(1, self.numnodes // 2)

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return TOGETHER.get(file, file if file.startswith(WHOLE) and file != APART else nodeid)

    def schedule(self) -> None:
        told = _heavy_tests(self.nodes[0].workerinput)
        if self.collection is None and told.exists():  # workers that found an error in the command line tell of none
            self._heavy = {self._split_scope(nodeid) for nodeid in told.read_text().splitlines()}
            told.unlink()
        super().schedule()

    def _assign_work_unit(self, node: WorkerController) -> None:
        takes_heavy = sum(map(self._has_heavy, self.nodes)) - self._has_heavy(node) < self._heavy_at_once
        of_its_kind = (scope for scope in self.workqueue if (scope in self._heavy) == takes_heavy)
        self.workqueue.move_to_end(next(of_its_kind, next(iter(self.workqueue))), last=False)
        super()._assign_work_unit(node)

    def _has_heavy(self, node: WorkerController) -> bool:
        """Whether it runs a heavy test, or holds one ready."""
        return any(scope in self._heavy and not all(unit.values()) for scope, unit in self.assigned_work[node].items())

    def _reschedule(self, node: WorkerController) -> None:
        """A worker holds one test ready, which it needs to know. Of two, the last might wait while others idle."""
        if not self.workqueue or self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)


def missing_paths(config: pytest.Config) -> list[str]:
    """What was asked for and is not there."""
    asked = [argument.partition("::")[0] for argument in config.args]
    return [path for path in asked if not (config.invocation_params.dir / path).exists()]


def tell_heavy(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The first worker notes which tests are heavy: it alone knows their marks, and tells the scheduler only names."""
    if getattr(config, "workerinput", {}).get("workerid") == "gw0":
        heavy = [item.nodeid for item in items if HEAVY & {mark.name for mark in item.iter_markers()}]
        _heavy_tests(config.workerinput).write_text("\n".join(heavy))


def _heavy_tests(workerinput: dict[str, Any]) -> Path:
    return Path(tempfile.gettempdir()) / f"pileus-heavy-tests-{workerinput['testrunuid']}"
